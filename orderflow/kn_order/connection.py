"""Where query is, and the key that opens it: from a flag, the environment, or the sandbox that runs here."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orderflow.kn_order.client import OperatorError, WrongUsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVER: Final = "ORDERFLOW_SERVER"
KEY: Final = "ORDERFLOW_KEY"
STATE: Final = Path(".orderflow")
_OPERATOR: Final = re.compile(r"[A-Za-z0-9@._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Place:
    """key is empty where none is needed, as in a sandbox; then operator is who acts, if anybody is named."""

    server: str
    key: str
    operator: str = ""


def find(
    server: str | None, key_file: Path | None, environ: Mapping[str, str] = os.environ, state: Path = STATE
) -> Place:
    """Raises OperatorError where no server is known, WrongUsageError for what is no address or cannot be read."""
    key = _key(key_file) if key_file else environ.get(KEY, "")
    address = server or environ.get(SERVER) or _sandbox(state)
    if not address:
        raise OperatorError(
            "no server: name query's address with --server or in ORDERFLOW_SERVER, or start a sandbox here"
            " with `make run`"
        )
    if not address.startswith(("http://", "https://")):
        raise WrongUsageError(f"{address!r} is no address: it begins with http:// or https://")
    if not key.isascii() or not key.isprintable():
        raise WrongUsageError("the key has characters that no key has; is this the right file?")
    user = environ.get("USER") or environ.get("LOGNAME", "")
    return Place(address.rstrip("/"), key, user if _OPERATOR.fullmatch(user) else "")


def _key(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "this is no text file"
        raise WrongUsageError(f"--key-file {file}: {why}") from None


def _sandbox(state: Path) -> str:
    if not state.is_dir():
        return ""
    # Late: only a machine with a sandbox has what reading its address needs.
    from orderflow_sandbox.address import running

    address = running(state)
    return address.query if address else ""
