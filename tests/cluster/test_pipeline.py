"""The pipeline in a real cluster: orders through its gateway and Kafka, and operators' commands of kn."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.cluster.kube import ClusterError
from tests.cluster.orders import sender, settled_account, storefront
from tests.cluster.stack import STAGES, Stack, holds, is_ready

_ORDERS = 60
_MINUTES_TO_ZERO = 5


async def test_orders_over_http_and_kafka_end_as_they_should_and_once(stack: Stack) -> None:
    async with sender(stack) as shop:
        await shop.send_scenarios(storefront(_ORDERS, seed=1))
        account = await settled_account(stack, shop.log)
    assert account.missing_events == []
    assert account.unexpected == []
    assert account.accounted == _ORDERS
    assert _mails_twice(stack) == []


async def test_the_scheduled_audit_finds_nothing_missing(stack: Stack) -> None:
    report = stack.kube.until(300, "a complete audit", lambda: _complete(_audit(stack)))
    assert sum(report["topics"]["orders.inbox.v1"].values()) > _ORDERS


def test_kn_order_speaks_with_query_through_kn(stack: Stack) -> None:
    parked_events = json.loads(_kn_order(stack, "parked", "list", "-o", "json"))
    parked_event = _kn_order(stack, "parked", "show", parked_events[0]["id"], "-o", "json")
    assert json.loads(parked_event)["id"] == parked_events[0]["id"]


def test_kn_order_asks_for_an_audit(stack: Stack) -> None:
    def complete() -> dict[str, Any] | None:
        process = subprocess.run(
            ["kn", "order", "audit", "--run", "-o", "json"],
            env=_path(stack),
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.stdout, process.stderr
        report: dict[str, Any] = json.loads(process.stdout)["report"]
        return _complete(report)

    stack.kube.until(300, "a complete audit", complete)


def test_without_a_key_the_gateway_leads_to_a_closed_door(stack: Stack) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": stack.proxy}))
    for address in (f"{stack.url('intake')}/orders", f"{stack.url('query')}/api/orders"):
        request = urllib.request.Request(address, data=b"{}" if "intake" in address else None)
        with pytest.raises(urllib.error.HTTPError) as refusal:
            opener.open(request, timeout=60)
        assert refusal.value.code == 401


def test_only_intake_and_query_are_public(stack: Stack) -> None:
    public = {name for name in STAGES if ".svc." not in stack.url(name)}
    assert public == {"intake", "query"}


def test_kn_lists_and_describes_every_stage(stack: Stack) -> None:
    services = stack.kube.kn("service", "list")
    assert all(name in services for name in STAGES)
    for name in STAGES:
        assert name in stack.kube.kn("service", "describe", name)
        assert name in stack.kube.kn("revision", "list", "--service", name)


async def test_two_revisions_share_the_traffic_and_no_order_is_lost_between_them(stack: Stack) -> None:
    kube = stack.kube
    first_revision = kube.get("ksvc", "validate")["status"]["latestReadyRevisionName"]
    kube.kn("service", "update", "validate", "--env", "LOG_LEVEL=WARNING", "--no-wait")

    def new_revision() -> str | None:
        service = kube.get("ksvc", "validate")
        latest: str = service["status"]["latestReadyRevisionName"]
        return latest if is_ready(service) and latest != first_revision else None

    second_revision = kube.until(120, "the new revision", new_revision)
    kube.kn(
        "service",
        "update",
        "validate",
        "--traffic",
        f"{first_revision}=50",
        "--traffic",
        f"{second_revision}=50",
    )
    try:
        async with sender(stack) as shop:
            await shop.send_scenarios(storefront(_ORDERS, seed=2))
            account = await settled_account(stack, shop.log)
        assert account.complete, (account.missing_events, account.unexpected)
        assert {first_revision, second_revision} <= _revisions(stack)
    finally:
        kube.kn("service", "update", "validate", "--traffic", "@latest=100")


async def test_a_stage_that_was_scaled_to_zero_answers_the_next_event(stack: Stack) -> None:
    for stage in ("intake", "validate", "track", "notify", "park", "shelve"):
        stack.kube.until(
            _MINUTES_TO_ZERO * 60, f"{stage} at zero", lambda name=stage: not stack.kube.pods(name) or None
        )
    async with sender(stack) as shop:
        await shop.send_scenarios(storefront(20, seed=3))
        account = await settled_account(stack, shop.log)
    assert account.complete, (account.missing_events, account.unexpected)


def _path(stack: Stack) -> dict[str, str]:
    """kn finds kn-order on the PATH."""
    environment = stack.environment()
    return environment | {"PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"}


def _kn_order(stack: Stack, *arguments: str) -> str:
    process = subprocess.run(
        ["kn", "order", *arguments], env=_path(stack), capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def _audit(stack: Stack) -> dict[str, Any]:
    """One run of the schedule's Job; what it prints."""
    stack.kube.kubectl("delete", "job", "audit-now", "--ignore-not-found")
    stack.kube.kubectl("create", "job", "audit-now", "--from=cronjob/audit")

    def ended() -> bool | None:
        conditions = stack.kube.get("job", "audit-now")["status"].get("conditions", [])
        return holds(conditions, "Complete") or holds(conditions, "Failed") or None

    stack.kube.until(300, "the audit", ended)
    lines = stack.kube.kubectl("logs", "job/audit-now").splitlines()
    # A pod's log has both what it prints and what it logs; the report is the one object of several lines.
    if "{" not in lines or "}" not in lines:
        raise ClusterError(f"the audit printed no report: {lines}")
    report: dict[str, Any] = json.loads("\n".join(lines[lines.index("{") : lines.index("}") + 1]))
    return report


def _complete(report: dict[str, Any]) -> dict[str, Any] | None:
    assert report["missing_count"] == 0
    return report if report["state"] == "complete" else None


def _mails_twice(stack: Stack) -> list[Any]:
    with psycopg.connect(stack.servers.admin_url) as connection:
        return connection.execute(
            "SELECT event_id, channel, recipient FROM notifications GROUP BY 1, 2, 3 HAVING count(*) > 1"
        ).fetchall()


def _revisions(stack: Stack) -> set[str]:
    """Whose verdicts are in the ledger."""
    with psycopg.connect(stack.servers.admin_url) as connection:
        rows = connection.execute(
            "SELECT DISTINCT validated_by FROM ledger WHERE validated_by IS NOT NULL"
        ).fetchall()
    return {row[0] for row in rows}
