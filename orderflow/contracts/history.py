"""What git knows of the releases before this one."""

from __future__ import annotations

import io
import subprocess
import tarfile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

NO_RELEASE: Final = "There is no release yet (no tag vX.Y.Z)"


class NoHistoryError(Exception):
    """git cannot tell; the message says why, and what to do about it."""


def last_release(repository: Path) -> str:
    """The youngest version's tag that leads to the present commit; empty where there is none. Raises NoHistoryError
    where a shallow clone leaves it open whether there is one."""
    asked = _git(repository, "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*")
    tag = asked.stdout.decode().strip()
    if not tag and _git(repository, "rev-parse", "--is-shallow-repository").stdout.strip() == b"true":
        raise NoHistoryError(
            "this clone is shallow and has no release's tag: `git fetch --unshallow --tags` first"
        )
    return tag


def unpack(repository: Path, revision: str, into: Path, *paths: str) -> None:
    """What a revision had below the paths, which are the repository folder's own. Raises NoHistoryError."""
    found = _git(repository, "archive", "--format=tar", revision, "--", *paths)
    if found.returncode != 0:
        raise NoHistoryError(f"{revision}: {found.stderr.decode(errors='replace').strip()}")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(into, filter="data")


def _git(repository: Path, *command: str) -> subprocess.CompletedProcess[bytes]:
    asked = ["git", "-C", str(repository), *command]
    return subprocess.run(asked, capture_output=True, check=False)  # noqa: S603 - no shell
