"""Programs that some tests need and that are no Python packages."""

from __future__ import annotations

import os
import shutil

import pytest

from support.stage import ROOT

BUILT = ROOT / "build/tools"
"""`make test-tools` builds kn, prometheus and promtool there."""

PACKAGES = {
    "chromium": "apt-get install chromium",
    "kcat": "apt-get install kcat",
    "kn": "make test-tools",
    "pgbouncer": "apt-get install pgbouncer",
    "prometheus": "apt-get install prometheus, or make test-tools",
    "promtool": "apt-get install prometheus, or make test-tools",
}
"""How to get each program."""

VARIABLES = {"chromium": "CHROMIUM", "kn": "KN"}
"""The environment variable that names another path of the program."""

_MISSING = "missing program: "


def program(name: str, required: str = "") -> str:
    """The path of a program: the one that its environment variable names, that of PATH, or the built one.

    Without the program the test is skipped. The test fails instead where the environment variable `required` is 1.
    """
    everywhere = os.pathsep.join((os.environ["PATH"], str(BUILT)))
    path = os.environ.get(VARIABLES.get(name, "")) or shutil.which(name, path=everywhere)
    if path is None:
        assert os.environ.get(required) != "1", f"{_MISSING}{name}"
        pytest.skip(f"{_MISSING}{name}")
    return path


def missing(reasons: list[str]) -> str:
    """One line about all tests that were skipped for want of a program, and how to get it; empty without any.

    `reasons` are those of all skipped tests.
    """
    names = [reason.rpartition(_MISSING)[2] for reason in reasons if _MISSING in reason]
    ways = dict.fromkeys(PACKAGES[name] for name in sorted(set(names)))
    if not names:
        return ""
    return f"{len(names)} tests were skipped without {', '.join(sorted(set(names)))}: {'; '.join(ways)}"
