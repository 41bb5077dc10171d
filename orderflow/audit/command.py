"""The audit on the command line: one run, its report as a table or as JSON, and an exit code for a schedule."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING, Final

from pydantic_core import to_json

from orderflow import startup
from orderflow.audit import table
from orderflow.audit.report import EXIT_CODES
from orderflow.errors import TransientError
from orderflow.version import add_option

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orderflow.audit.report import Report
    from orderflow.audit.run import AuditRun

_NOT_RUN: Final = 3


def main(build: Callable[[], AuditRun], arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m functions.audit",
        description="Compares the logs of the topics with the database, and repairs what is missing.",
        epilog="Exit code 0: nothing is missing. 1: events were missing; the report says how each was repaired."
        " 2: bad settings. 3: not every record could be judged, or no run was possible.",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON instead of a table")
    add_option(parser)
    options = parser.parse_args(arguments)
    try:
        report = asyncio.run(_run(build))
    except TransientError as error:
        sys.stderr.write(f"audit: {error}; try again when it is available\n")
        return _NOT_RUN
    if report is None:
        sys.stderr.write(
            "audit: another run, or the command resume, is under way; try again when it has ended\n"
        )
        return _NOT_RUN
    document = report.as_dict()
    text = to_json(document, indent=2).decode() + "\n" if options.json else table.table(document)
    sys.stdout.write(text)
    return EXIT_CODES[report.state]


async def _run(build: Callable[[], AuditRun]) -> Report | None:
    return await startup.or_exit(build)()
