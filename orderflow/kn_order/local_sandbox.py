"""The sandbox on this machine, if one is running: where it writes its address, and the part that kn order reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import psutil

STATE: Final = Path(".orderflow")
FILE: Final = "sandbox.json"


def query_address(state: Path) -> str:
    """Query's address; empty where no sandbox is running."""
    try:
        sandbox = json.loads((state / FILE).read_text())
        pid, address = int(sandbox["pid"]), str(sandbox["query"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return address if psutil.pid_exists(pid) else ""
