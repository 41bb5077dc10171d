"""Earlier releases, from git."""

from __future__ import annotations

import io
import subprocess
import tarfile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

NO_RELEASE: Final = "There is no release yet (no tag vX.Y.Z)"


class NoHistoryError(Exception):
    """git does not have the answer; the message says why, and what to do."""


def last_release(repository: Path) -> str:
    """The latest version tag among the ancestors of the present commit; empty where there is none.

    Raises NoHistoryError in a shallow clone without such a tag: the full history may have one.
    """
    described = _git(repository, "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*")
    tag = described.stdout.decode().strip()
    if not tag and _git(repository, "rev-parse", "--is-shallow-repository").stdout.strip() == b"true":
        raise NoHistoryError(
            "this clone is shallow and has no tag of a release: `git fetch --unshallow --tags` first"
        )
    return tag


def unpack(repository: Path, revision: str, into: Path, *paths: str) -> None:
    """Extracts the files that a revision has below the paths, which are relative to repository.

    Raises NoHistoryError.
    """
    result = _git(repository, "archive", "--format=tar", revision, "--", *paths)
    if result.returncode != 0:
        raise NoHistoryError(f"{revision}: {result.stderr.decode(errors='replace').strip()}")
    with tarfile.open(fileobj=io.BytesIO(result.stdout)) as archive:
        archive.extractall(into, filter="data")


def _git(repository: Path, *command: str) -> subprocess.CompletedProcess[bytes]:
    arguments = ["git", "-C", str(repository), *command]
    return subprocess.run(arguments, capture_output=True, check=False)  # noqa: S603 - no shell
