"""Running other programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Run = Callable[[Sequence[str]], int]
    """Runs a command, shows its output, and returns its exit code."""
    Capture = Callable[[Sequence[str]], bytes]
    """Runs a command and returns its output."""


class NotReadyError(Exception):
    """A program or a setting is missing. The message names it, and where to get it."""


def run(command: Sequence[str], variables: Mapping[str, str] | None = None) -> int:
    """`variables` are added to the environment. Raises NotReadyError where the program is not on the PATH."""
    _require(command[0])
    sys.stdout.write(f"+ {' '.join(command)}\n")
    sys.stdout.flush()
    return subprocess.run(list(command), env=os.environ | (variables or {}), check=False).returncode  # noqa: S603 - no shell


def capture(command: Sequence[str]) -> bytes:
    """Returns the output for any exit code. Raises NotReadyError where the program is not on the PATH."""
    _require(command[0])
    return subprocess.run(list(command), stdout=subprocess.PIPE, check=False).stdout  # noqa: S603 - no shell


def _require(program: str) -> None:
    if shutil.which(program) is None:
        raise NotReadyError(f"{program} is not on the PATH")
