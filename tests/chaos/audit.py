"""The project's own audit, run as an operator or a schedule runs it."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass, field
from typing import Any

from tests.chaos import manifests
from tests.chaos.shop import Shop

COMPLETE = 0
MISSING = 1
_GRACE_SECONDS = 1


@dataclass(frozen=True)
class Finding:
    """One run. code is the audit's exit code."""

    code: int
    report: dict[str, Any] = field(default_factory=dict)
    trouble: str = ""

    @property
    def missing(self) -> int:
        return int(self.report.get("missing_count", 0))


async def run(shop: Shop) -> Finding:
    environment = shop.environment() | {
        "AUDIT_GRACE_SECONDS": str(_GRACE_SECONDS),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(manifests.ROOT),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "functions.audit", "--json"),
        env=environment,
        cwd=manifests.ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, trouble = await process.communicate()
    code = process.returncode if process.returncode is not None else -1
    return Finding(code, json.loads(output) if output.startswith(b"{") else {}, trouble.decode()[-500:])
