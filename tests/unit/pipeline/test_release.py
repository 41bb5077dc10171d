"""`make release` on real repositories of git: every refusal, a dry run that changes nothing, one commit and one tag."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.stage import ROOT

FRAGMENTS = {
    "one.added.md": "- One thing, which takes\n  two lines.\n- Another.\n",
    "another.fixed.md": "- A third.\n",
}
LOG = """# Changelog

## [Unreleased]

<!-- releases start here -->

## [0.1.0] - 2026-11-01

### Added

- Everything.
"""
PROJECT = (
    '[project]\nname = "orderflow"\nversion = "0.1.0"  # the one place\ndependencies = ["aiohttp>=0.1.0"]\n'
)
LOCK = """version = 1

[[package]]
name = "aiohttp"
version = "0.1.0"

[[package]]
name = "orderflow"
version = "0.1.0"
"""
MAKE = """#!/bin/sh
for target in "$@"; do
    case $target in --*) continue ;; esac
    echo "$target" >>"$MAKE_STUB/made"
    if [ -f "$MAKE_STUB/fails/$target" ]; then cat "$MAKE_STUB/fails/$target"; exit 2; fi
    if [ "$target" = contracts ]; then
        sed -nE 's/^version = "([^"]*)".*/{"version": "\\1"}/p' pyproject.toml >contracts/openapi.json
        sh "$MAKE_STUB/then"
    fi
    echo "$target: fine"
done
"""


class Targets:
    """A stand-in for `make` on the PATH. Its targets succeed, or fail with a chosen text."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "fails").mkdir(parents=True)
        self.run_in_contracts("")
        program = folder / "make"
        program.write_text(MAKE)
        program.chmod(0o755)

    @property
    def called_targets(self) -> list[str]:
        record = self._folder / "made"
        return record.read_text().splitlines() if record.exists() else []

    def fail(self, target: str, text: str) -> None:
        (self._folder / "fails" / target).write_text(text)

    def run_in_contracts(self, script: str) -> None:
        """Sets a shell script that `make contracts` also runs."""
        (self._folder / "then").write_text(script)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Targets:
    folder = tmp_path / "make"
    monkeypatch.setenv("MAKE_STUB", str(folder))
    monkeypatch.setenv(
        "PATH", os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    return Targets(folder)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One release, 0.1.0, and one commit after it; its upstream is a bare repository beside it."""
    folder = tmp_path / "here"
    (folder / "contracts").mkdir(parents=True)
    (folder / "changelog.d").mkdir()
    monkeypatch.chdir(folder)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "nobody")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "nobody@example.org")
    # The tests ignore the global settings of the person who runs them.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    Path("pyproject.toml").write_text(PROJECT + TOWNCRIER)
    Path("uv.lock").write_text(LOCK)
    Path("CHANGELOG.md").write_text(LOG)
    Path("contracts/openapi.json").write_text('{"version": "0.1.0"}\n')
    shutil.copy(ROOT / "changelog.d/template.md.jinja", "changelog.d")
    git("init", "--initial-branch=main")
    git("add", ".")
    git("commit", "--message=Everything")
    git("tag", "--annotate", "v0.1.0", "--message=0.1.0")
    for name, text in FRAGMENTS.items():
        Path("changelog.d", name).write_text(text)
    git("add", ".")
    git("commit", "--message=Another thing")
    git("clone", "--bare", ".", "../upstream.git")
    git("remote", "add", "origin", "../upstream.git")
    git("fetch", "origin")
    git("branch", "--set-upstream-to=origin/main")
    return folder


TOWNCRIER = re.search(r"^\[tool\.towncrier\]\n(.+\n)+", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[
    0
]
"""The project's own settings."""


def git(*command: str) -> str:
    return subprocess.run(["git", *command], check=True, capture_output=True, text=True).stdout.strip()


def everything(folder: Path) -> dict[str, bytes]:
    """All files and all references, as they are."""
    state = {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }
    return state | {"refs": git("for-each-ref").encode(), "status": git("status", "--porcelain").encode()}


def release(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(ROOT / "pipeline/release.sh")],
        env=dict(os.environ) | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_dry_run_says_so_and_what_it_would_do_and_changes_nothing(repository: Path, make: Targets) -> None:
    before = everything(repository)
    process = release()
    assert process.returncode == 0, process.stderr
    assert everything(repository) == before
    assert process.stdout.startswith("0.2.0: a dry run, nothing is changed. YES=1 makes the release.\n")
    assert re.search(r'"## \[0\.2\.0\] - \d{4}-\d\d-\d\d" into CHANGELOG\.md', process.stdout)
    assert "and 0.2.0 into\npyproject.toml, uv.lock and contracts/; commit" in process.stdout
    assert "git push --atomic origin main v0.2.0\n" in process.stdout
    assert re.search(r"^  ok +version +0\.2\.0 comes after 0\.1\.0$", process.stdout, re.MULTILINE)
    assert re.search(r"^  ok +changelog +files in changelog\.d/: 2$", process.stdout, re.MULTILINE)
    assert process.stdout.endswith("0.2.0 may be released\n")
    assert make.called_targets == ["compatibility", "migrations", "locked"]


def test_a_release_is_one_commit_and_one_tag_and_no_push(repository: Path, make: Targets) -> None:
    before = git("rev-parse", "HEAD")
    process = release(BUMP="minor", YES="1")
    assert process.returncode == 0, process.stderr
    assert git("rev-list", f"{before}..HEAD").count("\n") == 0
    assert git("rev-parse", "HEAD^") == before
    assert git("log", "-1", "--format=%s") == "Release 0.2.0"
    assert git("status", "--porcelain") == ""
    assert set(git("diff", "--name-only", "HEAD^").splitlines()) == {
        "pyproject.toml",
        "uv.lock",
        "CHANGELOG.md",
        "contracts/openapi.json",
        *(f"changelog.d/{name}" for name in FRAGMENTS),
    }
    project = Path("pyproject.toml").read_text()
    assert project == PROJECT.replace('version = "0.1.0"', 'version = "0.2.0"') + TOWNCRIER
    assert Path("uv.lock").read_text() == LOCK.replace(
        'name = "orderflow"\nversion = "0.1.0"', 'name = "orderflow"\nversion = "0.2.0"'
    )
    (day,) = re.findall(
        r"^## \[0\.2\.0\] - (\d{4}-\d\d-\d\d)$", Path("CHANGELOG.md").read_text(), re.MULTILINE
    )
    notes = "### Added\n\n- One thing, which takes\n  two lines.\n- Another.\n\n### Fixed\n\n- A third.\n"
    marker = "<!-- releases start here -->\n\n"
    assert Path("CHANGELOG.md").read_text() == LOG.replace(marker, f"{marker}## [0.2.0] - {day}\n\n{notes}\n")
    assert [path.name for path in Path("changelog.d").iterdir()] == ["template.md.jinja"]
    assert git("tag", "--list").split() == ["v0.1.0", "v0.2.0"]
    assert git("cat-file", "-t", "v0.2.0") == "tag"
    assert git("rev-parse", "v0.2.0^{commit}") == git("rev-parse", "HEAD")
    assert git("tag", "--list", "--format=%(contents)", "v0.2.0") == f"Orderflow 0.2.0\n\n{notes}".strip()
    assert git("ls-remote", "origin", "refs/tags/v0.2.0") == ""
    assert git("rev-parse", "origin/main") == before
    assert make.called_targets == ["compatibility", "migrations", "locked", "contracts", "locked"]
    assert process.stdout.endswith("that is the next step:\n  git push --atomic origin main v0.2.0\n")


def test_two_releases_follow_each_other(repository: Path, make: Targets) -> None:
    assert release(VERSION="0.2.0", YES="1").returncode == 0
    assert release(BUMP="patch", YES="1").returncode == 1
    Path("changelog.d/hole.security.md").write_text("- A hole is shut.\n")
    git("add", ".")
    git("commit", "--message=A hole")
    assert release(BUMP="patch", YES="1").returncode == 0
    assert git("describe") == "v0.2.1"
    headings = re.findall(r"^## .*\]", Path("CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings == ["## [Unreleased]", "## [0.2.1]", "## [0.2.0]", "## [0.1.0]"]


def test_the_first_release_may_be_what_the_project_says_already(repository: Path, make: Targets) -> None:
    git("tag", "--delete", "v0.1.0")
    Path("CHANGELOG.md").write_text(LOG.partition("## [0.1.0]")[0])
    git("commit", "--all", "--message=Nothing was released")
    assert release(BUMP="minor", YES="1").returncode == 0
    assert git("describe") == "v0.1.0"
    changed = git("diff", "--name-only", "--diff-filter=M", "HEAD^").splitlines()
    assert changed == ["CHANGELOG.md"]


def dirty() -> None:
    Path("untracked.txt").write_text("by somebody")


def on_a_branch() -> None:
    git("switch", "--create", "feature")


def detached() -> None:
    git("switch", "--detach")


def behind() -> None:
    git("commit", "--allow-empty", "--message=Somebody else's")
    git("push", "origin", "main")
    git("reset", "--hard", "HEAD^")


def nothing_to_say() -> None:
    git("rm", *(f"changelog.d/{name}" for name in FRAGMENTS))
    git("commit", "--message=Nothing")


def no_such_category() -> None:
    git("mv", "changelog.d/another.fixed.md", "changelog.d/another.mended.md")
    git("commit", "--message=Mended")


def no_heading() -> None:
    Path("CHANGELOG.md").write_text(LOG.replace("releases start here", "Next"))
    git("commit", "--all", "--message=No heading")


def written_already() -> None:
    Path("CHANGELOG.md").write_text(LOG.replace("0.1.0", "0.2.0"))
    git("commit", "--all", "--message=A heading")


def a_later_one_is_released() -> None:
    git("tag", "v0.2.0", "v0.1.0")


def the_project_is_further() -> None:
    Path("pyproject.toml").write_text((PROJECT + TOWNCRIER).replace('version = "0.1.0"', 'version = "0.3.0"'))
    git("commit", "--all", "--message=Further")


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (dirty, "not committed: untracked.txt"),
        (on_a_branch, "feature is checked out; releases are made on main"),
        (detached, "no branch is checked out"),
        (behind, "commits of origin/main that are missing: 1"),
        (nothing_to_say, "changelog.d/ has no file"),
        (no_such_category, "changelog.d/another.mended.md: no <name>.<category>.md of added, "),
        (no_heading, 'CHANGELOG.md has no line "<!-- releases start here -->"'),
        (written_already, "CHANGELOG.md has a heading for 0.2.0 already"),
        (a_later_one_is_released, "0.2.0 does not come after 0.2.0, which is released"),
        (the_project_is_further, "0.2.0 comes before 0.3.0, which pyproject.toml has"),
    ],
)
def test_what_stands_against_a_release_is_told_and_nothing_is_changed(
    repository: Path, make: Targets, trouble: Callable[[], None], says: str
) -> None:
    trouble()
    before = everything(repository)
    dry_run = release(VERSION="0.2.0")
    assert dry_run.returncode == 1
    assert says in dry_run.stdout
    process = release(VERSION="0.2.0", YES="1")
    assert process.returncode == 1
    assert says in process.stdout
    assert "FAILED" in process.stdout
    assert process.stdout.endswith("0.2.0 may not be released: 1 of the checks failed, nothing is changed\n")
    assert everything(repository) == before


@pytest.mark.parametrize("target", ["compatibility", "migrations", "locked"])
def test_a_check_that_is_a_target_of_its_own_counts_and_its_words_are_told(
    repository: Path, make: Targets, target: str
) -> None:
    make.fail(target, "first\nthe reason why\n")
    before = everything(repository)
    process = release(VERSION="0.2.0", YES="1")
    assert process.returncode == 1
    assert re.search(rf"^  FAILED  {target} +first\nthe reason why$", process.stdout, re.MULTILINE)
    assert everything(repository) == before
    assert make.called_targets == ["compatibility", "migrations", "locked"], "all checks run"


def test_a_shallow_clone_does_not_know_what_was_released(
    repository: Path, make: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    git("clone", "--depth=1", f"file://{repository}", "../shallow")
    monkeypatch.chdir("../shallow")
    process = release(VERSION="0.2.0")
    assert process.returncode == 1
    assert "git fetch --unshallow --tags" in process.stdout


def contracts_fail(make: Targets) -> None:
    make.fail("contracts", "no models\n")


def contracts_bring_more(make: Targets) -> None:
    make.run_in_contracts("echo more >README.md; echo '{}' >contracts/new.json")


def nobody_may_commit(make: Targets) -> None:
    hook = Path(".git/hooks/commit-msg")
    hook.write_text("#!/bin/sh\necho the hook says no >&2\nexit 1\n")
    hook.chmod(0o755)


def the_tag_comes_meanwhile(make: Targets) -> None:
    make.run_in_contracts("git tag v0.2.0")


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (contracts_fail, "no models"),
        (contracts_bring_more, "something else changed meanwhile: README.md"),
        (nobody_may_commit, "the hook says no"),
        (the_tag_comes_meanwhile, "fatal: tag 'v0.2.0' already exists"),
    ],
)
def test_a_release_that_breaks_off_leaves_nothing_behind(
    repository: Path, make: Targets, trouble: Callable[[Targets], None], says: str
) -> None:
    trouble(make)
    head = git("rev-parse", "HEAD")
    process = release(VERSION="0.2.0", YES="1")
    assert process.returncode != 0
    assert says in process.stdout + process.stderr
    assert process.stderr.endswith("release: a step failed, nothing is changed\n")
    Path("README.md").unlink(missing_ok=True)
    assert git("rev-parse", "HEAD") == head
    assert git("status", "--porcelain") == ""
    assert Path("pyproject.toml").read_text() == PROJECT + TOWNCRIER


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"VERSION": "1.2"}, "VERSION: '1.2' is no version x.y.z"),
        ({"VERSION": "v1.2.3"}, "VERSION: 'v1.2.3' is no version x.y.z"),
        ({"VERSION": "1.2.3rc1"}, "VERSION: '1.2.3rc1' is no version x.y.z"),
        ({"VERSION": "next"}, "VERSION: 'next' is no version x.y.z"),
        ({"BUMP": "huge"}, "BUMP: 'huge' is none of major, minor, patch"),
        ({"VERSION": "1.0.0", "BUMP": "major"}, "VERSION or BUMP, not both"),
        ({"YES": "1"}, "which version? VERSION=x.y.z or BUMP="),
        ({"BUMP": "minor", "YES": "yes"}, "YES: 'yes' is not 1"),
    ],
)
def test_wrong_words_are_named_and_nothing_is_asked(
    repository: Path, make: Targets, variables: dict[str, str], says: str
) -> None:
    process = release(**variables)
    assert process.returncode == 2
    assert says in process.stderr
    assert make.called_targets == []


@pytest.mark.parametrize(
    ("last", "part", "next_one"),
    [
        ("1.4.2", "major", "2.0.0"),
        ("1.4.2", "minor", "1.5.0"),
        ("1.4.2", "patch", "1.4.3"),
        ("1.9.10", "minor", "1.10.0"),
        ("", "minor", "0.1.0"),
    ],
)
def test_a_part_counts_on_and_those_after_it_begin_anew(
    repository: Path, make: Targets, last: str, part: str, next_one: str
) -> None:
    git("tag", f"v{last}") if last else git("tag", "--delete", "v0.1.0")
    assert release(BUMP=part).stdout.startswith(f"{next_one}: a dry run, nothing is changed.")


def test_the_projects_own_changelog_can_be_released() -> None:
    towncrier = str(Path(sys.executable).with_name("towncrier"))
    command = [towncrier, "build", "--draft", "--version", "97.53.11", "--date", "2026-11-26"]
    draft = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert draft.startswith("## [97.53.11] - 2026-11-26\n")
    assert "<!-- releases start here -->\n" in (ROOT / "CHANGELOG.md").read_text()
    for fragment in (ROOT / "changelog.d").glob("*.md"):
        assert re.fullmatch(r".+\.(added|changed|deprecated|removed|fixed|security)\.md", fragment.name)
        assert re.fullmatch(r"(- .+\n(  .+\n)*)+", fragment.read_text()), fragment.name
        assert fragment.read_text() in draft
