"""The Jenkinsfile, parsed and run by the harness of tests/pipeline/jenkins: the commands of each kind of build.

The harness replaces Jenkins and knows only the steps that the file uses. It does not show that Jenkins has the plugins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.stage import ROOT

from tests.pipeline.branches import JENKINSFILE, as_markdown, harness, run_scenarios, shells
from tests.pipeline.table import AGAINST

VERIFIED = [
    "make lint",
    "make asyncapi compatibility migrations",
    "make coverage",
    "make manifests",
    "make sonar-scan",
]
BUILT = ["make snyk", "make image sbom", "make snyk"]
PUSHED = ["make registry-login image-push", "make registry-login sign"]
STAGED = ["make deploy-staging", "make postman", "make audit-staging"]
LOGGED_OUT = ["make registry-logout"]


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return run_scenarios()


def build_of(report: dict[str, Any], name: str) -> dict[str, Any]:
    build: dict[str, Any] = next(each for each in report["builds"] if each["name"] == name)
    return build


def arguments_of(build: dict[str, Any], step: str) -> list[str]:
    return [event["what"] for event in build["events"] if event["step"] == step]


def test_a_good_commit_goes_all_the_way_in_this_order(report: dict[str, Any]) -> None:
    good = build_of(report, "pass")
    assert good["result"] == "SUCCESS"
    expected = VERIFIED + BUILT + PUSHED + LOGGED_OUT + STAGED + ["make deploy-production"]
    assert shells(good) == expected
    assert arguments_of(good, "junit") == ["build/tests.xml", "build/newman.xml"]
    assert arguments_of(good, "recordCoverage") == ["build/coverage.xml"]


@pytest.mark.parametrize(
    ("name", "ran"),
    [
        ("lint", VERIFIED[:1]),
        ("contracts", VERIFIED[:2]),
        ("tests", VERIFIED[:3]),
        ("gate failed", VERIFIED),
        ("findings", VERIFIED + BUILT[:1] + LOGGED_OUT),
        ("tool failure", VERIFIED + BUILT[:1] + LOGGED_OUT),
        ("tool missing", VERIFIED + BUILT[:1] + LOGGED_OUT),
        ("findings in the image", VERIFIED + BUILT + LOGGED_OUT),
        ("push refused", VERIFIED + BUILT + [PUSHED[0]] * 2 + LOGGED_OUT),
        ("not signed", VERIFIED + BUILT + PUSHED + LOGGED_OUT),
        ("staging not up", VERIFIED + BUILT + PUSHED + LOGGED_OUT + STAGED[:1]),
        ("staging tests failed", VERIFIED + BUILT + PUSHED + LOGGED_OUT + STAGED[:2]),
        ("staging loses orders", VERIFIED + BUILT + PUSHED + LOGGED_OUT + STAGED),
        ("rolled back", VERIFIED + BUILT + PUSHED + LOGGED_OUT + STAGED + ["make deploy-production"]),
    ],
)
def test_after_a_failure_nothing_more_is_done_but_cleaning_up(
    report: dict[str, Any], name: str, ran: list[str]
) -> None:
    build = build_of(report, name)
    assert build["result"] == "FAILURE"
    assert shells(build) == ran


@pytest.mark.parametrize(
    ("name", "ran"),
    [
        ("gate timeout", VERIFIED),
        ("aborted in tests", VERIFIED[:3]),
        (
            "aborted in production",
            VERIFIED + BUILT + PUSHED + LOGGED_OUT + STAGED + ["make deploy-production"],
        ),
    ],
)
def test_what_is_stopped_is_aborted_and_goes_no_further(
    report: dict[str, Any], name: str, ran: list[str]
) -> None:
    build = build_of(report, name)
    assert build["result"] == "ABORTED"
    assert shells(build) == ran


def test_a_push_that_broke_off_is_repeated_and_nothing_else_is(report: dict[str, Any]) -> None:
    build = build_of(report, "push broke off once")
    assert build["result"] == "SUCCESS"
    assert shells(build).count(PUSHED[0]) == 2
    assert JENKINSFILE.read_text().count("retry(") == 1


@pytest.mark.parametrize("name", ["pull request", "branch"])
def test_what_is_not_main_is_verified_and_scanned_and_never_leaves(report: dict[str, Any], name: str) -> None:
    build = build_of(report, name)
    assert build["result"] == "SUCCESS"
    assert shells(build) == VERIFIED + BUILT + LOGGED_OUT
    assert arguments_of(build, "skipped") == ["Push", "Sign", "Staging", "Production"]
    assert {each for event in build["events"] for each in event["credentials"]} == {
        "server sonarqube",
        "snyk-token",
    }


def test_findings_and_a_tool_that_failed_are_told_apart(report: dict[str, Any]) -> None:
    descriptions = {
        name: build_of(report, name)["description"] for name in ("findings", "tool failure", "tool missing")
    }
    assert descriptions == {
        "findings": "Snyk: findings",
        "tool failure": "Snyk: failed",
        "tool missing": "Snyk: did not run",
    }
    assert build_of(report, "findings in the image")["description"] == "Snyk: findings"


def test_a_release_that_was_taken_back_names_its_analysis(report: dict[str, Any]) -> None:
    build = build_of(report, "rolled back")
    assert build["description"] == "track: Degraded: the analysis order-outcomes failed"
    assert arguments_of(build, "archiveArtifacts")[-1] == "build/rollouts/*"


def test_results_are_kept_whatever_became_of_the_build(report: dict[str, Any]) -> None:
    assert arguments_of(build_of(report, "tests"), "junit") == ["build/tests.xml"]
    assert arguments_of(build_of(report, "staging tests failed"), "junit") == [
        "build/tests.xml",
        "build/newman.xml",
    ]
    assert "build/snyk/*" in arguments_of(build_of(report, "findings"), "archiveArtifacts")[-1]


def test_the_gate_holds_no_agent_and_has_a_limit_and_every_command_has_an_agent(
    report: dict[str, Any],
) -> None:
    events = build_of(report, "pass")["events"]
    (gate,) = [event for event in events if event["step"] == "waitForQualityGate"]
    assert gate["agent"] is None
    assert gate["what"] == "abortPipeline: true"
    (stage,) = [each for each in report["outline"]["stages"] if each["name"] == "Quality gate"]
    assert stage["options"]["timeout"] == {"time": 15, "unit": "MINUTES"}
    assert all(event["agent"] == "orderflow" for event in events if event["step"] == "sh")


def test_builds_do_not_meet_have_an_end_and_times_and_are_not_kept_for_ever(report: dict[str, Any]) -> None:
    options = report["outline"]["options"]
    assert {"timestamps", "disableConcurrentBuilds", "timeout", "buildDiscarder"} == options.keys()


def test_each_command_has_the_credentials_that_it_needs_and_no_others(report: dict[str, Any]) -> None:
    events = [event for event in build_of(report, "pass")["events"] if event["step"] == "sh"]
    credentials = {re.split(r" \w+=", event["what"])[0]: set(event["credentials"]) for event in events}
    staging_keys = {f"staging-{name}-key" for name in ("intake", "bound", "query", "read")}
    assert {command: ids for command, ids in credentials.items() if ids} == {
        "make sonar-scan": {"server sonarqube"},
        "make snyk": {"snyk-token"},
        "make registry-login image-push": {"docker-hub"},
        "make registry-login sign": {"docker-hub", "cosign-key", "cosign-password"},
        "make deploy-staging": {"staging-kubeconfig"},
        "make postman": {"staging-intake", "staging-query", *staging_keys},
        "make audit-staging": {"staging-query", "staging-query-key"},
        "make deploy-production": {"production-kubeconfig"},
    }


def leaves(section: dict[str, Any]) -> Iterator[str]:
    if not section["stages"]:
        yield section["name"]
    for stage in section["stages"]:
        yield from leaves(stage)


def test_the_table_of_make_pipeline_knows_every_stage(report: dict[str, Any]) -> None:
    assert list(leaves(report["outline"])) == list(AGAINST)


def test_the_table_of_branches_in_the_docs_is_what_the_builds_did(report: dict[str, Any]) -> None:
    assert as_markdown(report) in (ROOT / "docs/reference/pipeline.md").read_text()


def test_the_repository_is_ours_unless_jenkins_names_another(report: dict[str, Any]) -> None:
    assert report["outline"]["environment"] == {"REPOSITORY": "docker.io/orderflow/orderflow"}


def code_lines() -> Iterator[str]:
    for line in JENKINSFILE.read_text().splitlines():
        if not line.strip().startswith("//"):
            yield line


def test_no_groovy_string_could_show_a_secret_and_nothing_is_swallowed() -> None:
    for line in code_lines():
        if line.strip().startswith("REPOSITORY = "):
            continue  # evaluated before any credential is bound
        outside_single_quotes = re.sub(r"'[^']*'", "''", line)
        assert '"' not in outside_single_quotes, line
        assert not re.search(r"\|\||catchError|returnStatus|set \+e", line), line


def test_every_command_is_a_make_target_that_a_person_can_run() -> None:
    targets = set(
        re.findall(
            r"^([a-z][a-z0-9-]*(?: [a-z][a-z0-9-]*)*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE
        )
    )
    names = {name for line in targets for name in line.split()}
    for line in code_lines():
        for script in re.findall(r"\bsh '([^']*)'", line):
            program, *words = script.split()
            assert program == "make"
            for word in words:
                if "=" in word:
                    break
                assert word in names, word


@pytest.mark.parametrize(
    ("valid", "invalid"),
    [("waitForQualityGate", "waitForQualtyGate"), ("  }\n}\n", "  }\n")],
)
def test_a_misspelled_step_or_a_missing_brace_is_an_error_here(
    valid: str, invalid: str, tmp_path: Path
) -> None:
    content = JENKINSFILE.read_text()
    assert valid in content
    broken = tmp_path / "Jenkinsfile"
    broken.write_text(content.replace(valid, invalid))
    assert harness(broken, {"pass": {}}).returncode != 0
