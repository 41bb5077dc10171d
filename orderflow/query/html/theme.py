"""Bootstrap's dark colours for people whose system prefers dark, without a script.

Bootstrap has these colours under `[data-bs-theme=dark]`, an attribute that only a script could set by the system's
preference. A media query needs no script, so the rules are taken from Bootstrap's own file and put under one.
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
    """Raises ValueError where the file has no such rules, for example after an upgrade of Bootstrap."""
    rules = [
        f"{selector.replace(_DARK, ':root')}{{{body}}}"
        for selector, body in _RULE.findall(css)
        if selector.startswith(_DARK)
    ]
    if not rules:
        raise ValueError(f"no rules for {_DARK}")
    return "@media (prefers-color-scheme:dark){" + "".join(rules) + "}"
