"""`make release` on real repositories of git: every refusal, a dry run that changes nothing, one commit and one tag."""

import json
import subprocess
import tomllib
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from pipeline import changelog, release
from pipeline.changelog import ChangelogError

DAY = date(2026, 11, 26)
LOG = """# Changelog

## [Unreleased]

### Added

- One thing, which takes
  two lines.
- Another.

### Fixed

- A third.

## [0.1.0] - 2026-11-01

### Added

- Everything.
"""
PROJECT = (
    '[project]\nname = "orderflow"\nversion = "0.1.0"  # the one place\ndependencies = ["aiohttp>=0.1.0"]\n'
)


class Targets:
    """make, with targets that do what they are told to."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.fails: dict[str, str] = {}
        self.then: Callable[[], object] = lambda: None

    def __call__(self, target: str) -> tuple[int, str]:
        self.made.append(target)
        if target in self.fails:
            return 2, self.fails[target]
        if target == "contracts":
            version = tomllib.loads(Path("pyproject.toml").read_text())["project"]["version"]
            Path("contracts/openapi.json").write_text(json.dumps({"version": version}))
            self.then()
        return 0, f"{target}: fine\n"


@pytest.fixture
def make() -> Targets:
    return Targets()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One release, 0.1.0, and one commit after it; its upstream is a bare repository beside it."""
    folder = tmp_path / "here"
    (folder / "contracts").mkdir(parents=True)
    monkeypatch.chdir(folder)
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "nobody")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "nobody@example.org")
    # Nothing that a person has set for all repositories has a say.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    Path("pyproject.toml").write_text(PROJECT)
    Path("CHANGELOG.md").write_text("# Changelog\n")
    Path("contracts/openapi.json").write_text('{"version": "0.1.0"}')
    git("init", "--initial-branch=main")
    git("add", ".")
    git("commit", "--message=Everything")
    git("tag", "--annotate", "v0.1.0", "--message=0.1.0")
    Path("CHANGELOG.md").write_text(LOG)
    git("commit", "--all", "--message=Another thing")
    git("clone", "--bare", ".", "../upstream.git")
    git("remote", "add", "origin", "../upstream.git")
    git("fetch", "origin")
    git("branch", "--set-upstream-to=origin/main")
    return folder


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


def run(make: Targets, *arguments: str) -> int:
    return release.main(list(arguments), make, lambda: DAY)


def test_a_dry_run_says_so_and_what_it_would_do_and_changes_nothing(
    repository: Path, make: Targets, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(repository)
    assert run(make) == 0
    assert everything(repository) == before
    told = capsys.readouterr().out
    assert told.startswith("0.2.0: a dry run, nothing is changed. YES=1 makes the release.\n")
    assert "write 0.2.0 for 0.1.0 into pyproject.toml" in told
    assert '"## [0.2.0] - 2026-11-26"' in told
    assert "git push --atomic origin main v0.2.0" in told
    assert told.endswith("0.2.0 may be released\n")
    assert make.made == ["compatibility", "migrations", "locked"]


def test_a_release_is_one_commit_and_one_tag_and_no_push(
    repository: Path, make: Targets, capsys: pytest.CaptureFixture[str]
) -> None:
    before = git("rev-parse", "HEAD")
    assert run(make, "--bump", "minor", "--yes", "1") == 0
    assert git("rev-list", f"{before}..HEAD").count("\n") == 0
    assert git("rev-parse", "HEAD^") == before
    assert git("log", "-1", "--format=%s") == "Release 0.2.0"
    assert git("status", "--porcelain") == ""
    assert set(git("diff", "--name-only", "HEAD^").splitlines()) == {
        "pyproject.toml",
        "CHANGELOG.md",
        "contracts/openapi.json",
    }
    assert Path("pyproject.toml").read_text() == PROJECT.replace('version = "0.1.0"', 'version = "0.2.0"')
    assert Path("CHANGELOG.md").read_text() == LOG.replace(
        "## [Unreleased]\n", "## [Unreleased]\n\n## [0.2.0] - 2026-11-26\n"
    )
    assert git("tag", "--list").split() == ["v0.1.0", "v0.2.0"]
    assert git("cat-file", "-t", "v0.2.0") == "tag"
    assert git("rev-parse", "v0.2.0^{commit}") == git("rev-parse", "HEAD")
    notes = git("tag", "--list", "--format=%(contents)", "v0.2.0")
    assert notes.startswith("Orderflow 0.2.0\n\n### Added\n\n- One thing, which takes\n  two lines.\n")
    assert "Everything" not in notes
    assert git("ls-remote", "origin", "refs/tags/v0.2.0") == ""
    assert git("rev-parse", "origin/main") == before
    assert capsys.readouterr().out.endswith(
        "that is the next step:\n  git push --atomic origin main v0.2.0\n"
    )


def test_two_releases_follow_each_other(repository: Path, make: Targets) -> None:
    assert run(make, "--version", "0.2.0", "--yes", "1") == 0
    assert run(make, "--bump", "patch", "--yes", "1") == 1
    Path("CHANGELOG.md").write_text(
        Path("CHANGELOG.md")
        .read_text()
        .replace("## [Unreleased]\n", "## [Unreleased]\n\n### Security\n\n- A hole is shut.\n")
    )
    git("commit", "--all", "--message=A hole")
    assert run(make, "--bump", "patch", "--yes", "1") == 0
    assert git("describe") == "v0.2.1"


def test_the_first_release_may_be_what_the_project_says_already(repository: Path, make: Targets) -> None:
    git("tag", "--delete", "v0.1.0")
    Path("CHANGELOG.md").write_text(LOG.partition("## [0.1.0]")[0])
    git("commit", "--all", "--message=Nothing was released")
    assert run(make, "--bump", "minor", "--yes", "1") == 0
    assert git("describe") == "v0.1.0"
    assert git("diff", "--name-only", "HEAD^") == "CHANGELOG.md"


def dirty() -> None:
    Path("left.txt").write_text("by somebody")


def on_a_branch() -> None:
    git("switch", "--create", "feature")


def detached() -> None:
    git("switch", "--detach")


def behind() -> None:
    git("commit", "--allow-empty", "--message=Somebody else's")
    git("push", "origin", "main")
    git("reset", "--hard", "HEAD^")


def nothing_to_say() -> None:
    Path("CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - 2026-11-01\n\n- All.\n")
    git("commit", "--all", "--message=Nothing")


def no_such_category() -> None:
    Path("CHANGELOG.md").write_text(LOG.replace("### Fixed", "### Mended"))
    git("commit", "--all", "--message=Mended")


def no_heading() -> None:
    Path("CHANGELOG.md").write_text(LOG.replace("[Unreleased]", "[Next]"))
    git("commit", "--all", "--message=No heading")


def written_already() -> None:
    Path("CHANGELOG.md").write_text(LOG.replace("0.1.0", "0.2.0"))
    git("commit", "--all", "--message=A heading")


def a_later_one_is_released() -> None:
    git("tag", "v0.2.0", "v0.1.0")


def the_project_is_further() -> None:
    Path("pyproject.toml").write_text(PROJECT.replace('version = "0.1.0"', 'version = "0.3.0"'))
    git("commit", "--all", "--message=Further")


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (dirty, "not committed: left.txt"),
        (on_a_branch, "feature is checked out; releases are made on main"),
        (detached, "no branch is checked out"),
        (behind, "commits of origin/main that are missing: 1"),
        (nothing_to_say, '"Unreleased" has no entry'),
        (no_such_category, '"### Mended" is none of Added, '),
        (no_heading, 'there is no heading "## [Unreleased]"'),
        (written_already, "there is a heading for 0.2.0 already"),
        (a_later_one_is_released, "0.2.0 does not come after 0.2.0, which is released"),
        (the_project_is_further, "0.2.0 comes before 0.3.0, which pyproject.toml has"),
    ],
)
def test_what_stands_against_a_release_is_told_and_nothing_is_changed(
    repository: Path,
    make: Targets,
    capsys: pytest.CaptureFixture[str],
    trouble: Callable[[], None],
    says: str,
) -> None:
    trouble()
    before = everything(repository)
    assert run(make, "--version", "0.2.0") == 1
    assert says in capsys.readouterr().out
    assert run(make, "--version", "0.2.0", "--yes", "1") == 1
    told = capsys.readouterr().out
    assert says in told
    assert "FAILED" in told
    assert told.endswith("0.2.0 is not released: 1 of the checks failed, nothing is changed\n")
    assert everything(repository) == before


@pytest.mark.parametrize("target", ["compatibility", "migrations", "locked"])
def test_a_check_that_is_a_target_of_its_own_counts_and_its_words_are_told(
    repository: Path, make: Targets, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    make.fails[target] = "first\nthe reason why\n"
    before = everything(repository)
    assert run(make, "--version", "0.2.0", "--yes", "1") == 1
    told = capsys.readouterr().out
    assert f"`make {target}`:" in told
    assert "the reason why" in told
    assert everything(repository) == before
    assert make.made == ["compatibility", "migrations", "locked"], "the others are asked all the same"


def test_a_shallow_clone_does_not_know_what_was_released(
    repository: Path, make: Targets, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    git("clone", "--depth=1", f"file://{repository}", "../shallow")
    monkeypatch.chdir("../shallow")
    assert run(make, "--version", "0.2.0") == 1
    assert "git fetch --unshallow --tags" in capsys.readouterr().out


def contracts_fail(make: Targets) -> None:
    make.fails["contracts"] = "no models"


def contracts_bring_more(make: Targets) -> None:
    make.then = lambda: (Path("README.md").write_text("more"), Path("contracts/new.json").write_text("{}"))


def nobody_may_commit(make: Targets) -> None:
    hook = Path(".git/hooks/commit-msg")
    hook.write_text("#!/bin/sh\necho the hook says no >&2\nexit 1\n")
    hook.chmod(0o755)


def the_tag_comes_meanwhile(make: Targets) -> None:
    make.then = lambda: git("tag", "v0.2.0")


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (contracts_fail, "make contracts: no models"),
        (contracts_bring_more, "something else changed meanwhile: README.md"),
        (nobody_may_commit, "git commit: the hook says no"),
        (the_tag_comes_meanwhile, "git tag: fatal: tag 'v0.2.0' already exists"),
    ],
)
def test_a_release_that_breaks_off_leaves_nothing_behind(
    repository: Path,
    make: Targets,
    capsys: pytest.CaptureFixture[str],
    trouble: Callable[[Targets], None],
    says: str,
) -> None:
    trouble(make)
    head = git("rev-parse", "HEAD")
    assert run(make, "--version", "0.2.0", "--yes", "1") == 1
    assert says in capsys.readouterr().err
    Path("README.md").unlink(missing_ok=True)
    assert git("rev-parse", "HEAD") == head
    assert git("status", "--porcelain") == ""
    assert Path("pyproject.toml").read_text() == PROJECT


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--version", "1.2"], "VERSION: '1.2' is no version x.y.z"),
        (["--version", "v1.2.3"], "VERSION: 'v1.2.3' is no version x.y.z"),
        (["--version", "1.2.3rc1"], "VERSION: '1.2.3rc1' is no version x.y.z"),
        (["--version", "next"], "VERSION: 'next' is no version x.y.z"),
        (["--bump", "huge"], "BUMP: 'huge' is none of major, minor, patch"),
        (["--version", "1.0.0", "--bump", "major"], "VERSION or BUMP, not both"),
        (["--yes", "1"], "which version? VERSION=x.y.z or BUMP="),
        (["--bump", "minor", "--yes", "yes"], "YES: 'yes' is not 1"),
    ],
)
def test_wrong_words_are_named_and_nothing_is_asked(
    repository: Path,
    make: Targets,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(make, *arguments)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
    assert make.made == []


@pytest.mark.parametrize(
    ("last", "part", "next_one"),
    [
        ("1.4.2", "major", "2.0.0"),
        ("1.4.2", "minor", "1.5.0"),
        ("1.4.2", "patch", "1.4.3"),
        ("", "minor", "0.1.0"),
    ],
)
def test_a_part_counts_on_and_those_after_it_begin_anew(last: str, part: str, next_one: str) -> None:
    assert str(release.bumped(release.exact(last) if last else None, part)) == next_one


def test_the_projects_own_changelog_can_be_released() -> None:
    log = changelog.read((Path(__file__).parents[3] / "CHANGELOG.md").read_text())
    assert log.released("97.53.11", DAY).count("## [97.53.11] - 2026-11-26") == 1
    with pytest.raises(ChangelogError):
        changelog.check(changelog.read("## [Unreleased]\n"), "97.53.11")
