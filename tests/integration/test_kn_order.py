"""kn-order as an operator calls it: its own process, against query and the stages."""

import json
import os
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.console import console
from support.events import event, order, paid, placed
from support.flow import Flow, flow
from support.programs import program

from orderflow.adapters.http import api_keys
from orderflow.audit.report import TopicReport
from orderflow_sandbox.servers.postgres import create_database, drop_database

COMMAND = str(Path(sys.executable).with_name("kn-order"))


@pytest.fixture(scope="module")
def shop(kafka_bootstrap: str, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    name = f"test_{uuid.uuid4().hex}"
    own = create_database(database_url, name)
    with flow(kafka_bootstrap, own, tmp_path_factory.mktemp("kn-order")) as opened:
        yield opened
    drop_database(database_url, name)


@pytest.fixture(scope="module")
def parked(shop: Flow) -> dict[str, Any]:
    """A parked event that no test changes: an order that validate could not read."""
    order_id = shop.prefix + "stays"
    shop.send(event("placed", order_id, order(total="much")))
    shop.until(lambda: bool(shop.parked(order_id)))
    (parked_event,) = shop.parked(order_id)
    return parked_event


def kn(
    shop: Flow | None, *arguments: str, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    base = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "USER": "anna"}
    if shop is not None:
        base["ORDERFLOW_SERVER"] = str(shop.query.base_url)
    return subprocess.run(
        [COMMAND, *arguments],
        env=base | environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def act(shop: Flow, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    with shop.delivering():
        return kn(shop, *arguments, **more)


def placed_order(shop: Flow, name: str) -> str:
    order_id = shop.prefix + name
    shop.send(placed(order_id))
    shop.settle()
    return order_id


def parked_payment(shop: Flow, name: str) -> tuple[str, str]:
    order_id = shop.prefix + name
    shop.send(placed(order_id), paid(order_id, amount=1))
    shop.until(lambda: bool(shop.parked(order_id)))
    return order_id, shop.parked(order_id)[0]["id"]


def test_holding_says_that_it_took_effect_and_holding_twice_that_it_did_not(shop: Flow) -> None:
    order_id = placed_order(shop, "hold")
    done = act(shop, "hold", order_id, "--reason", "looks odd")
    assert done.returncode == 0, done.stderr
    assert "applied" in done.stdout
    again = act(shop, "hold", order_id, "--reason", "still odd")
    assert again.returncode == 1
    assert "refused" in again.stdout
    assert "(stale)" in again.stdout
    history = kn(shop, "history", order_id)
    assert re.search(r"held +applied +track-00001 +status accepted > held *\n +by: anna", history.stdout)
    assert "still odd" in history.stdout


def test_a_release_and_a_cancellation_follow(shop: Flow) -> None:
    order_id = placed_order(shop, "follow")
    for verb, status in (("hold", "held"), ("release", "accepted"), ("cancel", "cancelled")):
        assert act(shop, verb, order_id, "--reason", "a test").returncode == 0
        assert status in kn(shop, "status", order_id).stdout


def test_without_waiting_the_output_says_only_that_the_action_was_accepted(shop: Flow) -> None:
    order_id = placed_order(shop, "no-wait")
    done = kn(shop, "hold", order_id, "--reason", "x", "--no-wait", "-o", "json")
    assert done.returncode == 0
    receipt = json.loads(done.stdout)
    assert [action["order_id"] for action in receipt["taken"]] == [order_id]
    assert receipt["outcomes"] == []
    shop.settle()


def test_an_outcome_that_does_not_come_in_time_is_no_success(shop: Flow) -> None:
    order_id = placed_order(shop, "slow")
    done = kn(shop, "hold", order_id, "--reason", "x", "--timeout", "0")
    assert done.returncode == 1
    assert "no outcome within 0 s" in done.stderr
    shop.settle()


def test_a_payment_is_edited_by_path_and_its_order_is_paid(shop: Flow) -> None:
    order_id, parked_id = parked_payment(shop, "set")
    done = act(shop, "parked", "edit", parked_id, "--set", "data.amount=2900", "--why", "a typing error")
    assert done.returncode == 0, done.stderr
    assert "applied" in done.stdout
    assert shop.order(order_id)["payment"] == "paid"
    shown = kn(shop, "parked", "show", parked_id).stdout
    assert re.search(r"edited +anna +applied +a typing error *\n +edited: data.amount", shown)


def test_an_event_is_edited_from_a_file(shop: Flow, tmp_path: Path) -> None:
    order_id, parked_id = parked_payment(shop, "file")
    document = json.loads(kn(shop, "parked", "show", parked_id, "--reveal", "-o", "json").stdout)["editable"]
    document["data"]["amount"] = 2900
    file = tmp_path / "event.json"
    file.write_text(json.dumps(document))
    assert act(shop, "parked", "edit", parked_id, "--file", str(file)).returncode == 0
    assert shop.order(order_id)["payment"] == "paid"


def test_an_event_is_edited_in_an_editor(shop: Flow, tmp_path: Path) -> None:
    order_id, parked_id = parked_payment(shop, "editor")
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i \'s/"amount": 1,/"amount": 2900,/\' "$1"\n')
    editor.chmod(0o755)
    # The editor opens only on a terminal; script gives the command one.
    command = shlex.join([COMMAND, "parked", "edit", parked_id])
    environment = {"PATH": os.environ["PATH"], "EDITOR": str(editor), "USER": "anna", "TERM": "xterm"}
    with shop.delivering():
        done = subprocess.run(
            ["script", "-qec", command, "/dev/null"],
            env=environment | {"ORDERFLOW_SERVER": str(shop.query.base_url)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    assert done.returncode == 0, done.stdout
    assert "\x1b[32mapplied" in done.stdout
    assert shop.order(order_id)["payment"] == "paid"


def test_invalid_fields_are_named_and_nothing_is_sent(shop: Flow, parked: dict[str, Any]) -> None:
    done = kn(shop, "parked", "edit", parked["id"], "--set", "data.total=x", "--unset", "data.lines")
    assert done.returncode == 2
    assert "data.lines: Field required (missing)" in done.stderr
    assert "data.total" in done.stderr
    assert kn(shop, "parked", "edit", parked["id"]).returncode == 2


def test_an_orders_events_are_replayed_after_a_dry_run(shop: Flow) -> None:
    order_id, parked_id = parked_payment(shop, "replay")
    plan = kn(shop, "parked", "replay", "--order", order_id, "--dry-run", "-o", "name")
    assert (plan.returncode, plan.stdout) == (0, f"{parked_id}\n")
    unsure = kn(shop, "parked", "replay", "--order", order_id)
    assert unsure.returncode == 1
    assert "--yes" in unsure.stderr
    assert shop.order(order_id)["actions"] == []
    done = act(shop, "parked", "replay", "--order", order_id, "--yes")
    assert done.returncode == 1
    assert "parked" in done.stdout
    assert "(amount_mismatch)" in done.stdout
    assert shop.parked(order_id)[0]["replays"] == 1


def test_a_discarded_event_leaves_the_list_and_cannot_be_replayed(shop: Flow) -> None:
    order_id, parked_id = parked_payment(shop, "discard")
    assert kn(shop, "parked", "list", "--order", order_id, "-o", "name").stdout == f"{parked_id}\n"
    assert act(shop, "parked", "discard", parked_id, "--reason", "a test").returncode == 0
    assert kn(shop, "parked", "list", "--order", order_id, "-o", "name").stdout == ""
    gone = kn(shop, "parked", "list", "--order", order_id, "--state", "all")
    assert "discarded" in gone.stdout
    refused = kn(shop, "parked", "replay", parked_id)
    assert refused.returncode == 1
    assert "(already_discarded)" in refused.stdout


def test_waiting_events_get_more_time(shop: Flow) -> None:
    order_id = shop.prefix + "extend"
    shop.send(paid(order_id))
    shop.settle()
    done = act(shop, "extend", order_id, "5")
    assert (done.returncode, "1 waiting event" in done.stdout) == (0, True)
    assert "waits longer by: 5 h" in kn(shop, "history", order_id).stdout


def test_a_parked_event_is_shown_with_personal_data_masked_unless_revealed(
    shop: Flow, parked: dict[str, Any]
) -> None:
    masked = kn(shop, "parked", "show", parked["id"]).stdout
    for text in ("open", "validate validate-00001", "(int_type) at total", "masked", parked["event_id"]):
        assert text in masked
    assert "Ada" not in masked
    assert "Ada" in kn(shop, "parked", "show", parked["id"], "--reveal").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["parked", "list"],
        ["parked", "list", "--state", "all"],
        ["list"],
        ["parked", "show"],
        ["status"],
        ["history"],
    ],
)
def test_everything_fits_a_hundred_columns_and_has_no_colour_in_a_pipe(
    shop: Flow, parked: dict[str, Any], arguments: list[str]
) -> None:
    order_id = placed_order(shop, "wide")
    more = {"show": [parked["id"]], "status": [order_id], "history": [order_id]}.get(arguments[-1], [])
    done = kn(shop, *arguments, *more)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    text = done.stdout.split("\ndata (")[0]
    assert max(map(len, text.splitlines()), default=0) <= 100


@pytest.mark.parametrize("length", [36, 64])
def test_no_id_is_broken_however_long_it_is(shop: Flow, length: int) -> None:
    order_id, parked_id = parked_payment(shop, "x" * (length - len(shop.prefix)))
    shop.send(event("held", order_id))
    shop.settle()
    commands = [
        (["parked", "list"], {order_id, parked_id}),
        (["parked", "list", "--state", "all"], {order_id, parked_id}),
        (["parked", "replay", "--order", order_id, "--dry-run"], {order_id, parked_id}),
        (["list"], {order_id}),
        (["status", order_id], {order_id, f"{parked_id}:"}),
        (["history", order_id], {parked_id}),
        (["hold", order_id, "--reason", "x", "--no-wait"], {order_id}),
    ]
    for arguments, ids in commands:
        done = kn(shop, *arguments)
        assert ids <= set(done.stdout.split()), (arguments, done.stdout)
        assert max(map(len, done.stdout.splitlines())) <= 100
    shop.settle()


def test_an_orders_id_stands_beside_its_events_where_there_is_room_and_under_it_where_there_is_none(
    shop: Flow,
) -> None:
    order_id, parked_id = parked_payment(shop, "room")
    beside = kn(shop, "parked", "list", "--order", order_id).stdout
    assert re.search(f"{parked_id} +paid +track +amount_mismatch +{order_id} +[0-9]+s", beside)
    order_id, parked_id = parked_payment(shop, "x" * 51)
    under = kn(shop, "parked", "list", "--order", order_id).stdout
    assert re.search(f"{parked_id} +paid +track +amount_mism[^ ]* +[0-9]+s *\n{order_id}", under)


def test_options_before_a_verb_hold_for_it_unless_it_has_its_own(shop: Flow, parked: dict[str, Any]) -> None:
    here = ("--server", str(shop.query.base_url))
    nowhere = ("--server", "http://127.0.0.1:1")
    listed = ("list", "--order", parked["order_id"])
    for arguments in (
        (*here, "-o", "name", "parked", *listed),
        ("parked", *here, "-o", "name", *listed),
        (*here, "parked", "-o", "name", *listed),
        (*nowhere, "-o", "json", "parked", *listed, *here, "-o", "name"),
        (*nowhere, "parked", *here, *listed, "-o", "name"),
    ):
        done = kn(None, *arguments)
        assert (done.returncode, done.stdout) == (0, f"{parked['id']}\n"), done.stderr
    assert kn(None, *here, "list", *nowhere).returncode == 3


def test_orders_that_need_attention_are_listed(shop: Flow) -> None:
    order_id = shop.prefix + "needy"
    shop.send(placed(order_id), event("shipped", order_id))
    shop.settle()
    assert order_id in kn(shop, "list", "--need", "unpaid", "-o", "name").stdout.split()
    assert {row["attention"] for row in json.loads(kn(shop, "list", "-o", "json").stdout)} >= {"unpaid"}
    assert kn(shop, "list", "--need", "money").returncode == 2


def test_the_last_audit_is_shown_and_its_state_is_the_exit_code(shop: Flow) -> None:
    before = kn(shop, "audit")
    assert (before.returncode, "no audit has run yet" in before.stderr) == (1, True)
    report = {
        "id": "a-1",
        "state": "complete",
        "started_at": "2026-11-24T10:00:00Z",
        "finished_at": "2026-11-24T10:00:01Z",
        "records": 1,
        "topics": {"orders.inbox.v1": TopicReport(judged=1).as_dict()},
        "changes": 0,
        "waits_expired": 0,
        "missing_count": 0,
        "missing": [],
        "notes": [],
    }
    for state, code in (("complete", 0), ("missing", 1)):
        with psycopg.connect(shop.database) as connection:
            connection.execute(
                "INSERT INTO audit_runs (id, state, report, started_at) VALUES (%s, %s, %s, clock_timestamp())",
                (str(uuid.uuid4()), state, json.dumps(report | {"state": state})),
            )
        done = kn(shop, "audit")
        assert done.returncode == code, done.stderr
        assert "orders.inbox.v1" in done.stdout
    unset = kn(shop, "audit", "--run")
    assert unset.returncode == 3
    assert "AUDIT_URL" in unset.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["parked", "lst"], 2, "Did you mean 'list'"),
        (["parked", "list", "--stat", "x"], 2, "--state"),
        (["parked", "list", "--state", "shut"], 2, "open, replayed, discarded or all"),
        (["parked", "replay"], 2, "say what to replay"),
        (["parked", "replay", "--reason", "x"], 2, "go together"),
        (["parked", "edit", "x", "--set", "total"], 2, "PATH=VALUE"),
        (["parked", "edit", "x", "--file", "/none"], 2, "No such file"),
        (["hold", "x"], 2, "--reason"),
        (["hold", "none-such", "--reason", "x"], 1, "There is no such order"),
        (["status", "none-such"], 1, "nothing at this address or with this id"),
        (["parked", "show", "a/../b"], 1, "nothing at this address or with this id"),
        (["status", "x", "--server", "ftp://x"], 2, "begins with http"),
        (["status", "x", "--key-file", "/none"], 2, "No such file"),
    ],
)
def test_wrong_usage_is_answered_with_one_sentence(
    shop: Flow, arguments: list[str], code: int, message: str
) -> None:
    done = kn(shop, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_server_the_error_says_how_to_set_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [COMMAND, "list"],
        cwd=tmp_path,
        env={"PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "ORDERFLOW_SERVER" in done.stderr


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = kn(None, "list", "--server", "http://127.0.0.1:1")
    assert done.returncode == 3
    assert "http://127.0.0.1:1" in done.stderr


def test_a_key_comes_from_the_environment_or_a_file_and_a_wrong_one_is_an_error(
    shop: Flow, tmp_path: Path
) -> None:
    key, entry = api_keys.new_key("desk", ["query"])
    (tmp_path / "keys.toml").write_text(api_keys.toml(entry))
    (tmp_path / "key").write_text(f"{key}\n")
    environment = {"API_KEYS_FILE": str(tmp_path / "keys.toml"), "LOCAL_RUN": ""}
    with console(shop.database, tmp_path / "log", **environment) as address:
        assert kn(None, "list", "--server", address).returncode == 4
        assert kn(None, "list", "--server", address, ORDERFLOW_KEY=key).returncode == 0
        by_file = ("--server", address, "--key-file", str(tmp_path / "key"))
        assert kn(None, "list", *by_file).returncode == 0
        refused = kn(None, "hold", "x", "--reason", "x", *by_file)
        assert refused.returncode == 4
        assert "act = true" in refused.stderr
        assert key not in refused.stderr


def test_kn_finds_the_command_and_passes_arguments_on_but_has_one_exit_code_for_all_errors(
    shop: Flow,
) -> None:
    kn_itself = program("kn")
    path = f"{Path(COMMAND).parent}:{os.environ['PATH']}"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": path, "HOME": os.environ.get("HOME", "/")}
        return subprocess.run(
            [kn_itself, *arguments], env=environment, capture_output=True, text=True, timeout=90, check=False
        )

    order_id, parked_id = parked_payment(shop, "by-kn")
    assert f"kn-order : {COMMAND}" in run("plugin", "list").stdout
    here = ("--server", str(shop.query.base_url))
    for arguments in (
        ("order", *here, "parked", "list", "--order", order_id, "-o", "name"),
        ("order", "parked", "list", "--order", order_id, "-o", "name", *here),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (0, f"{parked_id}\n"), done.stderr
    away = run("order", "list", "--server", "http://127.0.0.1:1")
    assert away.returncode == 1
    assert "cannot be reached" in away.stderr


def test_a_shell_can_complete_it() -> None:
    environment = {
        "COMP_WORDS": "kn-order parked re",
        "COMP_CWORD": "2",
        "_KN_ORDER_COMPLETE": "complete_bash",
    }
    assert kn(None, **environment).stdout.split() == ["replay"]


def test_a_stage_that_does_not_exist_is_named_with_those_that_do(shop: Flow) -> None:
    for command in (
        ["parked", "list"],
        ["parked", "replay", "--reason", "bad"],
        ["repair", "--revision", "x-1"],
    ):
        answer = kn(shop, *command, "--stage", "nope")
        assert (answer.returncode, answer.stdout) == (2, "")
        assert "validate, track, notify, shelve" in answer.stderr
