"""`python -m orderflow.audit`: one run, its report as a table or as JSON, and an exit code for a schedule."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING, Final

from pydantic_core import to_json

from orderflow import startup
from orderflow.audit import table
from orderflow.audit.report import EXIT_CODES
from orderflow.errors import UnavailableError
from orderflow.version import add_option

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orderflow.audit.report import Report
    from orderflow.audit.run import AuditRun

_NOT_RUN: Final = 3


def main(build: Callable[[], AuditRun], arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m orderflow.audit",
        description="Compares the topics' logs with the database and makes good what is missing.",
        epilog="Exit code 0: all is accounted for; 1: something was missing, the report says what was done about it;"
        " 2: bad settings; 3: not everything could be judged, or no run could be made.",
    )
    parser.add_argument("--json", action="store_true", help="the report as JSON instead of a table")
    add_option(parser)
    given = parser.parse_args(arguments)
    try:
        report = asyncio.run(_run(build))
    except UnavailableError as error:
        sys.stderr.write(f"audit: {error}; try again when it is back\n")
        return _NOT_RUN
    if report is None:
        sys.stderr.write("audit: another run is under way; try again when it has ended\n")
        return _NOT_RUN
    found = report.as_dict()
    sys.stdout.write(to_json(found, indent=2).decode() + "\n" if given.json else table.table(found))
    return EXIT_CODES[report.state]


async def _run(build: Callable[[], AuditRun]) -> Report | None:
    return await startup.or_exit(build)()
