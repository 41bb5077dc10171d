"""Query's address and API key: from the options, the environment, or the sandbox on this machine."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orderflow.kn_order import local_sandbox
from orderflow.kn_order.errors import OperatorError, WrongUsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SERVER: Final = "ORDERFLOW_SERVER"
KEY: Final = "ORDERFLOW_KEY"
_OPERATOR: Final = re.compile(r"[A-Za-z0-9@._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Connection:
    """key: empty where query needs none, as in a sandbox. operator: the operator's name for that case; may be empty."""

    server: str
    key: str
    operator: str = ""


def find(
    server: str | None,
    key_file: Path | None,
    environ: Mapping[str, str] = os.environ,
    state: Path = local_sandbox.STATE,
) -> Connection:
    """Raises OperatorError where no address is known, WrongUsageError for an invalid address or key."""
    key = _key(key_file) if key_file else environ.get(KEY, "")
    address = server or environ.get(SERVER) or local_sandbox.query_address(state)
    if not address:
        raise OperatorError(
            "no server: set query's address with --server or in ORDERFLOW_SERVER, or start a sandbox here"
            " with `make run`"
        )
    if not address.startswith(("http://", "https://")):
        raise WrongUsageError(f"{address!r} is not an address: an address begins with http:// or https://")
    if not key.isascii() or not key.isprintable():
        raise WrongUsageError("the key has characters that no API key has; is this the right file?")
    user = environ.get("USER") or environ.get("LOGNAME", "")
    return Connection(address.rstrip("/"), key, user if _OPERATOR.fullmatch(user) else "")


def _key(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "this is not a text file"
        raise WrongUsageError(f"--key-file {file}: {why}") from None
