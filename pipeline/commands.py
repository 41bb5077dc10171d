"""Running the tools of others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Run = Callable[[Sequence[str]], int]
    """Runs a command, whose output everybody may see, and gives its exit code."""
    Ask = Callable[[Sequence[str]], bytes]
    """Runs a command and gives its output."""


class NotReadyError(Exception):
    """A tool or a setting is missing; the message says which, and where it comes from."""


def run(command: Sequence[str], more: Mapping[str, str] | None = None) -> int:
    """`more` is added to the environment. Raises NotReadyError where there is no such program."""
    _must_be_there(command[0])
    sys.stdout.write(f"+ {' '.join(command)}\n")
    sys.stdout.flush()
    return subprocess.run(list(command), env=os.environ | (more or {}), check=False).returncode  # noqa: S603 - no shell


def ask(command: Sequence[str]) -> bytes:
    """Whatever its exit code. Raises NotReadyError where there is no such program."""
    _must_be_there(command[0])
    return subprocess.run(list(command), stdout=subprocess.PIPE, check=False).stdout  # noqa: S603 - no shell


def _must_be_there(program: str) -> None:
    if shutil.which(program) is None:
        raise NotReadyError(f"{program} is not on the PATH")
