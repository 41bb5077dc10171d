"""`make release` as a person runs it: a dry run with the project's own targets."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def git_status() -> str:
    command = ["git", "-C", str(ROOT), "status", "--porcelain"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def make_release(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", "--directory", str(ROOT), "release", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_a_dry_run_asks_the_projects_own_targets_and_changes_nothing() -> None:
    status_before = git_status()
    process = make_release("BUMP=major")
    # The test may run on any branch and with uncommitted changes, so it checks only lines that do not depend on these.
    assert "a dry run, nothing is changed" in process.stdout, process.stderr
    for check in ("compatibility", "migrations", "locked"):
        assert f"  ok      {check} " in process.stdout, process.stdout
    assert "git push --atomic origin main v" in process.stdout
    assert git_status() == status_before


def test_a_word_that_is_none_is_named() -> None:
    for argument, message in (
        ("BUMP=huge", "BUMP: 'huge' is none of major, minor, patch"),
        ("VERSION=1.2", "VERSION: '1.2' is no version x.y.z"),
        ("YES=1", "which version? VERSION=x.y.z or BUMP="),
    ):
        process = make_release(argument)
        assert process.returncode != 0
        assert message in process.stderr
        assert "Traceback" not in process.stderr
