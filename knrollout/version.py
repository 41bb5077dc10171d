"""The installed version. It is declared in pyproject.toml; image/assemble.py records it in an image."""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache
def version() -> str:
    return metadata.version("orderflow")
