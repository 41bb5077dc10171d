"""`make release` as a person calls it, with the project's own targets: a dry run of the project itself."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def seen() -> str:
    command = ["git", "-C", str(ROOT), "status", "--porcelain"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def called(*words: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", "--directory", str(ROOT), "release", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_a_dry_run_asks_the_projects_own_targets_and_changes_nothing() -> None:
    before = seen()
    told = called("BUMP=major")
    # Whoever runs tests may be on a branch and have something to commit; the rest holds wherever they are.
    assert "a dry run, nothing is changed" in told.stdout, told.stderr
    for check in ("compatibility", "migrations", "locked"):
        assert f"  ok      {check} " in told.stdout, told.stdout
    assert "git push --atomic origin main v" in told.stdout
    assert seen() == before


def test_a_word_that_is_none_is_named() -> None:
    for word, says in (
        ("BUMP=huge", "BUMP: 'huge' is none of major, minor, patch"),
        ("VERSION=1.2", "VERSION: '1.2' is no version x.y.z"),
        ("YES=1", "which version? VERSION=x.y.z or BUMP="),
    ):
        told = called(word)
        assert told.returncode != 0
        assert says in told.stderr
        assert "Traceback" not in told.stderr
