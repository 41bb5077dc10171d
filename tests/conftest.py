"""What all tests share: what makes slow things start sooner, and what the run says at its end."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import settings
from support.programs import missing

# A test's Java processes end before the optimising compiler pays off. Without it a broker starts in half the CPU time.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

# jsonschema imports this package for the formats iri and iri-reference, which no schema here has. The import takes 2 s
# of CPU time in each process, because the package compiles its grammar anew.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

# No test asserts a time, and on a busy machine any example may take longer than Hypothesis' default of 200 ms.
settings.register_profile("orderflow", settings.default, deadline=None)
settings.load_profile("orderflow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives each test a node id of its own: of several tests with the same one, pytest-xdist runs only one.

    Schemathesis 4 names its tests after operations, and since 9.2 pytest leaves that out of their node ids."""
    for item in items:
        operation = getattr(item, "operation_label", None)
        if operation is not None:
            item._id = item.id.with_params(operation)
    assert len({item.nodeid for item in items}) == len(items), "two tests have the same node id"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says in one line which programs are missing."""
    reasons = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", [])]
    if line := missing(reasons):
        terminalreporter.write_line(line, yellow=True)
