"""Bootstrap's dark colours for who prefers dark, without a script to ask.

Bootstrap carries them under `[data-bs-theme=dark]`, an attribute that only a script could set to what the reader's
system prefers. The same rules under a media query need none, so they are taken out of Bootstrap's own file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import flask_bootstrap

BOOTSTRAP: Final = Path(flask_bootstrap.__file__).parent / "static/bootstrap5/css/bootstrap.min.css"
_DARK: Final = "[data-bs-theme=dark]"
_RULE: Final = re.compile(r"([^{}]+)\{([^{}]*)\}")


def dark_rules(css: str) -> str:
    """Raises ValueError where there are none, as after a release of Bootstrap that does it otherwise."""
    rules = [
        f"{selector.replace(_DARK, ':root')}{{{body}}}"
        for selector, body in _RULE.findall(css)
        if selector.startswith(_DARK)
    ]
    if not rules:
        raise ValueError(f"no rules for {_DARK}")
    return "@media (prefers-color-scheme:dark){" + "".join(rules) + "}"
