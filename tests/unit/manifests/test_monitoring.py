"""Alert rules, dashboards and runbooks, held against promtool and against what is really exported."""

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from support.firing import CASES, EARLY, Case
from support.monitoring import ALERTS, DASHBOARDS, EXPRESSIONS, FOREIGN, MONITORING, RULES, names
from support.programs import program
from support.stage import ROOT
from typer.main import get_command

from knrollout.cli.app import app as kn_rollout
from knrollout.controller.metrics import Metrics
from orderflow.domain.attention import STUCK_CODES
from orderflow.kn_order.app import app as kn_order
from orderflow.query.api import metrics
from orderflow.query.store.places import Unaccounted
from orderflow.query.store.statistics import LedgerCount, Need, NotificationCount, Outcomes, ParkedCount


def promtool(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("promtool", required="REQUIRE_PROMETHEUS"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the rules as Prometheus reads them: the resource's spec."""
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES))
    return tmp_path


def test_prometheus_takes_the_rules(folder: Path) -> None:
    done = promtool("check", "rules", "--lint-fatal", "rules.yaml", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}-{case.name}")
def test_an_alert_fires_when_it_is_to_and_not_otherwise(case: Case, folder: Path) -> None:
    labels = ALERTS[case.alert]["labels"] | (case.fires or {})
    pairs = ",".join(f'{name}="{value}"' for name, value in labels.items())
    firing = f'ALERTS{{alertname="{case.alert}",alertstate="firing",{pairs}}}'
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "promql_expr_test": [
            {
                "expr": f'ALERTS{{alertname="{case.alert}",alertstate="firing"}}',
                "eval_time": case.at,
                "exp_samples": [] if case.fires is None else [{"labels": firing, "value": 1}],
            }
        ],
    }
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    (folder / "test.yaml").write_text(yaml.safe_dump(document))
    done = promtool("test", "rules", "test.yaml", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    assert {case.alert for case in CASES if case.fires is not None} == set(ALERTS)
    assert {case.alert for case in CASES if case.fires is None} == set(ALERTS)
    assert set(EARLY) == {name for name, rule in ALERTS.items() if "for" in rule}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    annotations = rule["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert annotations["runbook_url"] == f"docs/how-to/runbooks.md#{name.lower()}"
    used = set(re.findall(r"\$labels\.(\w+)", annotations["summary"] + annotations["description"]))
    for case in CASES:
        if case.alert == name and case.fires is not None:
            assert used <= set(case.fires)


def test_each_alert_has_its_runbook_and_each_runbook_its_alert() -> None:
    text = (ROOT / "docs/how-to/runbooks.md").read_text()
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert [section.splitlines()[0] for section in sections] == list(ALERTS)
    for section in sections:
        for part in (
            "**Means.**",
            "**Customers notice.**",
            "**First look.**",
            "**Remedy.**",
            "**Escalate.**",
        ):
            assert part in section, section.splitlines()[0]


def test_every_command_of_ours_in_a_runbook_is_there_with_its_options() -> None:
    text = " ".join((ROOT / "docs/how-to/runbooks.md").read_text().split())
    commands = re.findall(r"`kn (order|rollout) ([^`]+)`", text)
    assert len(commands) > 20
    for tool, line in commands:
        place: Any = get_command({"order": kn_order, "rollout": kn_rollout}[tool])
        arguments = line.split()
        while arguments and hasattr(place, "commands"):
            place = place.commands[arguments.pop(0)]
        options = {option for parameter in place.params for option in parameter.opts}
        assert {word for word in arguments if word.startswith("--")} <= options, line


def test_prometheus_can_read_every_query(folder: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": expr} for number, (_, expr) in enumerate(EXPRESSIONS)]
    (folder / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = promtool("check", "rules", "queries.yaml", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(EXPRESSIONS)} rules found" in done.stdout
    assert not any("$" in expr for _, expr in EXPRESSIONS)


def test_the_names_of_metrics_are_found_in_a_query() -> None:
    query = 'sum by (a) (rate(one_total{b="c_d"}[5m])) / on (e) group_left () two offset 5m > 3 unless on () three'
    assert names(query) == {"one_total", "two", "three"}


def exported() -> dict[str, set[str]]:
    """Every metric that is ours, with its labels, from the code that exports it."""
    now = datetime.now(UTC)
    sample = Outcomes(
        status={"placed": 1},
        payment={"paid": 1},
        ledger=[LedgerCount("paid", "applied", "track-00001", "validate-00001", judged=False, count=1)],
        parked=[ParkedCount("validate", "x", "open", "validate-00001", 1, 1)],
        notifications=[NotificationCount("email", "sent", "notify-00001", 1)],
        waiting=1,
        counted_at=now,
    )
    run = {
        "state": "missing",
        "finished_at": now,
        "report": {
            "missing_count": 1,
            "remedies": {"republished": 1},
            "topics": {"orders.inbox.v1": {"judged": 1, "missing": 1}},
        },
    }
    text = metrics.of_outcomes(sample, {"held": Need("held", 1, now)}) + metrics.of_audit(run)
    text += metrics.of_places([Unaccounted("track", "orders.events.v1", 1)])
    text += metrics.of_alerts({code: Need(code, 1, now) for code in STUCK_CODES}, now)
    labels_by_metric = {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    registry = CollectorRegistry()
    rollout_metrics = Metrics(registry)
    rollout_metrics.phase.labels("n", "r", "Healthy").set(1)
    rollout_metrics.weight.labels("n", "r").set(1)
    rollout_metrics.events.labels("n", "r", "Aborted").inc()
    rollout_metrics.errors.labels("x").inc()
    return labels_by_metric | {
        sample.name: set(sample.labels) for family in registry.collect() for sample in family.samples
    }


def test_every_metric_that_is_used_is_exported_by_us_or_named_with_its_source() -> None:
    exported_labels = exported()
    for where, query in EXPRESSIONS:
        for name in names(query):
            assert name in exported_labels or name in FOREIGN, f"{where}: nobody exports {name}"
    used = {name for _, query in EXPRESSIONS for name in names(query)}
    assert set(FOREIGN) <= used, "a foreign metric is named that nothing uses"
    assert all(str(source).strip() for source in FOREIGN.values())


def test_a_query_asks_our_metrics_only_for_labels_that_they_have() -> None:
    exported_labels = exported()
    for where, query in EXPRESSIONS:
        for name, matchers in re.findall(r"\b((?:orderflow|knrollout)_\w+)\{([^}]*)\}", query):
            used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
            assert used <= exported_labels[name], f"{where}: {name} has no {used - exported_labels[name]}"


def test_every_metric_of_ours_is_on_a_dashboard() -> None:
    charted = {name for where, query in EXPRESSIONS if where not in ALERTS for name in names(query)}
    derived = {"knrollout_notices_created", "knrollout_troubles_created", "knrollout_round_seconds_created"}
    assert set(exported()) - derived - {"knrollout_round_seconds_bucket"} <= charted


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_works_with_whatever_prometheus_is_chosen(path: Path) -> None:
    board = json.loads(path.read_text())
    variables = board["templating"]["list"]
    assert variables[0]["type"] == "datasource"
    sources = [each["datasource"]["uid"] for each in places(board)]
    assert len(sources) > 1
    assert set(sources) == {f"${{{variables[0]['name']}}}"}


def test_dashboards_have_ids_of_their_own_and_panels_that_do_not_overlap() -> None:
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert len({board["uid"] for board in boards}) == len({board["title"] for board in boards}) == len(boards)
    for board in boards:
        panels = board["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        occupied: set[tuple[int, int]] = set()
        for panel in panels:
            grid = panel["gridPos"]
            cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
            assert not cells & occupied, panel["title"]
            assert grid["x"] + grid["w"] <= 24
            occupied |= cells


def places(node: Any) -> Iterator[dict[str, Any]]:
    """Everything in a dashboard that names a datasource."""
    if isinstance(node, dict):
        if isinstance(node.get("datasource"), dict):
            yield node
        for value in node.values():
            yield from places(value)
    elif isinstance(node, list):
        for value in node:
            yield from places(value)


def test_every_dashboard_and_manifest_is_part_of_the_kustomization() -> None:
    kustomization = yaml.safe_load((MONITORING / "kustomization.yaml").read_text())
    (boards,) = kustomization["configMapGenerator"]
    assert sorted(boards["files"]) == [f"dashboards/{path.name}" for path in DASHBOARDS]
    manifests = {path.name for path in MONITORING.glob("*.yaml")}
    assert set(kustomization["resources"]) == manifests - {"kustomization.yaml", "foreign-metrics.yaml"}
