"""What `make pipeline` brings along: the stand-in for Snyk, the bad commit, the shop's own folder, the table."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from tests.cluster.servers import Servers
from tests.pipeline import bad
from tests.pipeline.builds import FinishedBuild, Stage
from tests.pipeline.site import Environment, write
from tests.pipeline.table import Run, as_markdown, unknown

ROOT = Path(__file__).parents[3]
SNYK = ROOT / "tests/pipeline/stand_in/snyk"
KINDS = {
    "code": ["code", "test"],
    "iac": ["iac", "test", "knative"],
    "container": ["container", "test", "i"],
    "test": ["test", "--file=requirements.txt", "--package-manager=pip"],
}


def snyk(folder: Path, arguments: list[str], **environment: str) -> tuple[int, str, dict[str, Any]]:
    """The exit code, the output, and the report."""
    report = folder / "report.json"
    command = [sys.executable, str(SNYK), *arguments, f"--json-file-output={report}"]
    variables = {"PATH": os.environ["PATH"], "SNYK_TOKEN": "t"} | environment
    process = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    return process.returncode, process.stdout, json.loads(report.read_text())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_the_stand_in_for_snyk_answers_as_documented_and_always_says_what_it_is(
    tmp_path: Path, kind: str, code: int
) -> None:
    exit_code, output, report = snyk(tmp_path, KINDS[kind], SNYK_STAND_IN=f"{kind}={code}")
    assert exit_code == code
    assert "STAND-IN" in output
    assert "STAND-IN" in report["standIn"]


def test_the_stand_in_for_snyk_reports_what_it_is_told_to_find(tmp_path: Path) -> None:
    _, _, clean = snyk(tmp_path, KINDS["test"])
    _, _, findings = snyk(tmp_path, KINDS["test"], SNYK_STAND_IN="test=1")
    assert (clean["ok"], clean["vulnerabilities"]) == (True, [])
    assert (findings["ok"], findings["vulnerabilities"][0]["severity"]) == (False, "high")
    _, _, code = snyk(tmp_path, KINDS["code"], SNYK_STAND_IN="code=1")
    assert code["runs"][0]["results"][0]["level"] == "error"


def test_the_stand_in_for_snyk_needs_a_token_and_something_to_scan(tmp_path: Path) -> None:
    assert snyk(tmp_path, KINDS["test"], SNYK_TOKEN="")[0] == 2
    assert snyk(tmp_path, ["test", "--file=no-such-file"])[0] == 3


def test_the_bad_commit_still_is_one_and_passes_what_a_checkout_is_held_to(tmp_path: Path) -> None:
    changed_file = tmp_path / bad.CHANGED_FILE
    changed_file.parent.mkdir(parents=True)
    changed_file.write_text((ROOT / bad.CHANGED_FILE).read_text())
    changed_file.with_name("__init__.py").touch()
    bad.spoil(tmp_path)
    assert "_OF_YESTERDAY" in changed_file.read_text()
    ast.parse(changed_file.read_text())
    ruff = Path(sys.executable).with_name("ruff")
    settings = ["--config", str(ROOT / "pyproject.toml"), str(changed_file)]
    for verb in (["check"], ["format", "--check"]):
        process = subprocess.run([str(ruff), *verb, *settings], capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stdout


def test_the_bad_commit_s_own_checkout_stays_as_it_is(tmp_path: Path) -> None:
    changed_file = tmp_path / bad.CHANGED_FILE
    changed_file.parent.mkdir(parents=True)
    changed_file.write_text((ROOT / bad.CHANGED_FILE).read_text())
    bad.spoil(tmp_path)
    once = changed_file.read_text()
    bad.spoil(tmp_path)
    assert changed_file.read_text() == once


def test_the_bad_commit_says_where_the_code_has_changed_under_it(tmp_path: Path) -> None:
    changed_file = tmp_path / bad.CHANGED_FILE
    changed_file.parent.mkdir(parents=True)
    changed_file.write_text("\nfrom typing import Final\n")
    with pytest.raises(
        ValueError, match=r"orderflow/validate/handler\.py: 'def validate\(' is not there once"
    ):
        bad.spoil(tmp_path)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    servers = cast(Servers, SimpleNamespace(bootstrap="192.0.2.1:9092"))
    environments = [Environment(name, f"shop-{name}", servers) for name in ("staging", "production")]
    return write(tmp_path / "site", environments, "http://192.0.2.1:9090")


def test_the_run_s_folder_has_both_environments_over_the_shipped_ones(site: Path) -> None:
    for name in ("staging", "production"):
        document = yaml.safe_load((site / name / "kustomization.yaml").read_text())
        assert document["namespace"] == f"shop-{name}"
        assert document["resources"] == [f"../../knative/overlays/{name}"]


def test_the_run_s_rollouts_are_the_shipped_ones_with_its_addresses(site: Path) -> None:
    files = yaml.safe_load((site / "rollouts/kustomization.yaml").read_text())["resources"]
    shipped = {file.name for file in (ROOT / "argo/rollouts").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(files) == shipped
    for file in files:
        canary = yaml.safe_load((site / "rollouts" / file).read_text())["spec"]["strategy"]["canary"]
        arguments = {each["name"]: each.get("value") for each in canary["analysis"]["args"]}
        assert arguments["prometheus"] == "http://192.0.2.1:9090"
        if "stage" in arguments:
            assert arguments["domain"] == "shop-production.svc.cluster.local"


def test_without_a_prometheus_of_the_run_s_own_the_rollouts_stay_as_shipped(tmp_path: Path) -> None:
    assert not (write(tmp_path / "site", [], None) / "rollouts").exists()


def run(*stages: Stage, description: str = "", tests: str = "") -> Run:
    build = FinishedBuild("FAILURE", "script returned exit code 2", description, stages)
    return Run("bad", "A bad commit", "c" * 40, build, tests, ("an observation",), ())


def test_the_table_says_of_every_stage_what_ran_against_what_and_what_was_a_stand_in() -> None:
    stages = (
        Stage("Tests", "success", 12, ("make coverage",), ("3 tests",)),
        Stage("Snyk: image", "failure", 1, ("make snyk SCANS=image",)),
        Stage("Production", "skipped"),
    )
    text = as_markdown(run(*stages, description="Snyk: findings", tests="tests/unit"), {"production": "p"})
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows[0].endswith("| real | 12 | success | 3 tests; shortened to tests/unit |")
    assert rows[1].endswith("| nothing | **stand-in** | 1 | failure |  |")
    assert rows[2].endswith("namespace p, orders flowing | real | | skipped | |")
    assert "The build's description: `Snyk: findings`" in text
    assert "- an observation" in text


def test_a_stage_that_the_table_does_not_know_is_told() -> None:
    assert unknown([Stage("Tests", "success"), Stage("New", "success")]) == ["New"]
