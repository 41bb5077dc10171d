"""Which release this is: what was installed from pyproject.toml says so, in an image the note of image/assemble.py."""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache
def version() -> str:
    return metadata.version("orderflow")
