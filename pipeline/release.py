"""Makes a release: `make release`. A dry run unless told otherwise, and never a push.

    make release                       # what the next one would be, and whether it may
    make release BUMP=minor YES=1      # or VERSION=x.y.z: writes, commits, tags

Exit code 0: it is made, or may be; 1: it may not, and each reason is told, or a step failed, and nothing is changed;
2: wrong usage, or a tool is missing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from packaging.version import InvalidVersion, Version

from pipeline import changelog
from pipeline.changelog import ChangelogError
from pipeline.commands import NotReadyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Make = Callable[[str], tuple[int, str]]
    """Makes a target; its exit code, and what it printed."""

BRANCH: Final = "main"
PROJECT: Final = "pyproject.toml"
CHANGELOG: Final = "CHANGELOG.md"
CONTRACTS: Final = "contracts"
BUMPS: Final = ("major", "minor", "patch")
TOLD: Final = 12
"""Lines of a target that failed."""


class NotReleasedError(Exception):
    """The message says at which step."""


@dataclass(frozen=True, slots=True)
class Verdict:
    check: str
    fine: bool
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """present is what pyproject.toml says; last the youngest release, if there is one."""

    version: Version
    present: Version
    last: Version | None
    day: date

    @property
    def tag(self) -> str:
        return f"v{self.version}"


def git(*command: str, given: str | None = None) -> str:
    """Its output, without the last line's end. Raises NotReleasedError with what git says."""
    done = subprocess.run(  # noqa: S603 - no shell
        ["git", *command],  # noqa: S607 - whichever git a person has
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise NotReleasedError(f"git {command[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip("\n")


def make(target: str) -> tuple[int, str]:
    # Of what stood on release's own command line only COMPATIBILITY is the target's, and that is in the environment.
    kept = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    done = subprocess.run(  # noqa: S603 - no shell
        ["make", "--no-print-directory", target],  # noqa: S607 - whichever make a person has
        env=kept,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def exact(text: str) -> Version:
    """x.y.z, no more and no less. Raises ValueError."""
    try:
        version = Version(text)
    except InvalidVersion:
        version = None
    if version is None or version.base_version != text or len(version.release) != len(BUMPS):
        raise ValueError(f"{text!r} is no version x.y.z, three numbers")
    return version


def last_release() -> Version | None:
    found = []
    for tag in git("tag", "--list", "v[0-9]*").splitlines():
        try:
            found.append(exact(tag.removeprefix("v")))
        except ValueError:
            continue
    return max(found, default=None)


def bumped(last: Version | None, part: str) -> Version:
    """The version after the last release; the first one begins at 0.0.0."""
    numbers = list(last.release if last else (0, 0, 0))
    at = BUMPS.index(part)
    numbers[at] += 1
    numbers[at + 1 :] = [0] * (len(numbers) - at - 1)
    return Version(".".join(map(str, numbers)))


def plan(version: str, bump: str, day: date) -> Plan:
    """Where nobody says which: the version in pyproject.toml if that was not released yet, else the next minor one.
    Raises ValueError for what is no version."""
    present = exact(tomllib.loads(Path(PROJECT).read_text())["project"]["version"])
    last = last_release()
    if version:
        chosen = exact(version)
    elif bump:
        chosen = bumped(last, bump)
    else:
        chosen = present if last is None or present > last else bumped(last, "minor")
    return Plan(chosen, present, last, day)


def verdicts(planned: Plan, make: Make) -> Iterator[Verdict]:
    """All of them, though one failed: whoever mends wants to know the rest."""
    yield _judged("tree", _tree)
    yield _judged("branch", _branch)
    yield _judged("version", lambda: _version(planned))
    yield _judged("changelog", lambda: _changelog(planned))
    yield _made("contracts", "compatibility", make)
    yield _made("migrations", "migrations", make)
    yield _made("lock files", "locked", make)


def _judged(check: str, judge: Callable[[], str]) -> Verdict:
    try:
        return Verdict(check, True, judge())
    except (NotReleasedError, ChangelogError, OSError) as error:
        return Verdict(check, False, str(error))


def _made(check: str, target: str, make: Make) -> Verdict:
    code, told = make(target)
    lines = told.strip().splitlines() or ["it said nothing"]
    if code == 0:
        return Verdict(check, True, lines[-1])
    return Verdict(check, False, "\n".join([f"`make {target}`:", *lines[-TOLD:]]))


def _tree() -> str:
    changed = git("status", "--porcelain").splitlines()
    if changed:
        raise NotReleasedError(f"not committed: {', '.join(line[3:] for line in changed[:TOLD])}")
    return "clean"


def _branch() -> str:
    try:
        branch = git("symbolic-ref", "--quiet", "--short", "HEAD")
    except NotReleasedError:
        raise NotReleasedError(f"no branch is checked out; releases are made on {BRANCH}") from None
    if branch != BRANCH:
        raise NotReleasedError(f"{branch} is checked out; releases are made on {BRANCH}")
    try:
        behind = int(git("rev-list", "--count", "HEAD..@{upstream}"))
    except NotReleasedError:
        return f"{BRANCH}, which follows no other"
    if behind:
        upstream = git("rev-parse", "--abbrev-ref", "@{upstream}")
        raise NotReleasedError(f"commits of {upstream} that are missing: {behind}; git pull --ff-only")
    return f"{BRANCH}, nothing of its upstream is missing as of the last fetch"


def _version(planned: Plan) -> str:
    if git("rev-parse", "--is-shallow-repository") == "true":
        raise NotReleasedError(
            "this clone is shallow, and what was released is not known: git fetch --unshallow --tags"
        )
    if planned.last and planned.version <= planned.last:
        raise NotReleasedError(f"{planned.version} does not come after {planned.last}, which is released")
    if planned.version < planned.present:
        raise NotReleasedError(f"{planned.version} comes before {planned.present}, which {PROJECT} has")
    return (
        f"{planned.version} comes after {planned.last}"
        if planned.last
        else f"{planned.version}, the first one"
    )


def _changelog(planned: Plan) -> str:
    log = changelog.read(Path(CHANGELOG).read_text())
    changelog.check(log, str(planned.version))
    return f"{log.entries} entries are not released"


def carry_out(planned: Plan, make: Make) -> None:
    """One commit and one tag, or nothing at all. Raises NotReleasedError."""
    before = git("rev-parse", "HEAD")
    notes = changelog.read(Path(CHANGELOG).read_text()).unreleased.strip()
    try:
        _write(planned, make)
        git("add", "--", PROJECT, CHANGELOG, CONTRACTS)
        git("commit", "--quiet", "--message", f"Release {planned.version}")
        said = f"Orderflow {planned.version}\n\n{notes}\n"
        git("tag", "--annotate", planned.tag, "--cleanup=whitespace", "--file=-", given=said)
    except BaseException:
        _undo(before)
        raise


def _write(planned: Plan, make: Make) -> None:
    if planned.version != planned.present:
        uv = Path(sys.executable).with_name("uv")
        if not uv.is_file():
            raise NotReadyError("uv is not installed; `make .venv/dev` does that")
        done = subprocess.run(  # noqa: S603 - no shell
            [str(uv), "version", "--quiet", "--frozen", str(planned.version)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise NotReleasedError(f"uv version: {done.stderr.strip()}")
    log = changelog.read(Path(CHANGELOG).read_text())
    Path(CHANGELOG).write_text(log.released(str(planned.version), planned.day))
    code, told = make("contracts")
    if code != 0:
        raise NotReleasedError(f"make contracts: {told.strip()}")
    ours = (PROJECT, CHANGELOG, f"{CONTRACTS}/")
    others = [line[3:] for line in git("status", "--porcelain").splitlines() if not line[3:].startswith(ours)]
    if others:
        raise NotReleasedError(f"something else changed meanwhile: {', '.join(others)}")


def _undo(before: str) -> None:
    git("reset", "--quiet", "--soft", before)
    git("restore", f"--source={before}", "--staged", "--worktree", "--", PROJECT, CHANGELOG, CONTRACTS)
    git("clean", "--quiet", "-d", "--force", "--", CONTRACTS)


def steps(planned: Plan) -> Iterator[str]:
    if planned.version != planned.present:
        yield f"write {planned.version} for {planned.present} into {PROJECT}"
    yield f'write "## [{planned.version}] - {planned.day:%Y-%m-%d}" over what is not released in {CHANGELOG}'
    yield f"write {CONTRACTS}/ anew, for the descriptions name the version (make contracts)"
    yield f'commit that as "Release {planned.version}"'
    yield f"tag it {planned.tag}, annotated with what the changelog says"


def next_step(planned: Plan) -> str:
    return f"git push --atomic origin {BRANCH} {planned.tag}"


def main(
    arguments: Sequence[str] | None = None,
    make: Make = make,
    today: Callable[[], date] = lambda: datetime.now(UTC).date(),
) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.release", description=__doc__)
    parser.add_argument("--version", default="", help="x.y.z")
    parser.add_argument("--bump", default="", help="the part that counts on: major, minor, patch")
    parser.add_argument("--yes", default="", help="1: make it; left out: a dry run")
    given = parser.parse_args(arguments)
    if given.bump not in {"", *BUMPS}:
        parser.error(f"BUMP: {given.bump!r} is none of {', '.join(BUMPS)}")
    if given.yes not in {"", "1"}:
        parser.error(f"YES: {given.yes!r} is not 1; leave it out for a dry run")
    if given.version and given.bump:
        parser.error("VERSION or BUMP, not both")
    if given.yes and not given.version and not given.bump:
        parser.error("which version? VERSION=x.y.z or BUMP=major, minor or patch")
    try:
        planned = plan(given.version, given.bump, today())
    except ValueError as error:
        parser.error(f"VERSION: {error}")
    except (NotReleasedError, OSError) as error:
        parser.error(str(error))
    try:
        return _release(planned, make) if given.yes else _rehearse(planned, make)
    except NotReadyError as error:
        sys.stderr.write(f"release: {error}\n")
        return 2
    except NotReleasedError as error:
        sys.stderr.write(f"release: {error}\nnothing is changed\n")
        return 1


def _rehearse(planned: Plan, make: Make) -> int:
    _say(f"{planned.version}: a dry run, nothing is changed. YES=1 makes the release.\n")
    failed = _tell(planned, make)
    _say("\nIt would")
    for step in steps(planned):
        _say(f"  {step}")
    _say(f"and leave the push to you: {next_step(planned)}\n")
    _say(
        f"{planned.version} may not be released: {failed} of the checks failed"
        if failed
        else f"{planned.version} may be released"
    )
    return 1 if failed else 0


def _release(planned: Plan, make: Make) -> int:
    _say(f"{planned.version}\n")
    failed = _tell(planned, make)
    if failed:
        _say(f"\n{planned.version} is not released: {failed} of the checks failed, nothing is changed")
        return 1
    carry_out(planned, make)
    _say(
        f"\n{planned.version} is committed and tagged {planned.tag}. Nothing is pushed; that is the next step:"
    )
    _say(f"  {next_step(planned)}")
    return 0


def _tell(planned: Plan, make: Make) -> int:
    """How many failed."""
    failed = 0
    for each in verdicts(planned, make):
        failed += not each.fine
        text = each.text.replace("\n", f"\n{' ' * 21}")
        _say(f"  {'ok' if each.fine else 'FAILED':<7} {each.check:<11}{text}")
    return failed


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
