"""Reads the records of gaps, whatever they are: a record that cannot be read is named by its place."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from orderflow.audit.gap_process import UNAVAILABLE, UNREADABLE, Gap, GapAnswer, GapRequest
from orderflow.audit.kafka_record import KafkaRecord
from orderflow.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ANSWER_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class GapReader:
    """config has librdkafka's properties."""

    config: Mapping[str, Any]

    async def read(self, topic: str, gaps: Sequence[Gap]) -> list[KafkaRecord]:
        """The records in the gaps, by partition in the sequence of the log. Offsets without a record are left out. A
        record that the client library cannot read has `unreadable` set.

        Raises TransientError where Kafka does not answer.
        """
        request = GapRequest(config=dict(self.config), topic=topic, gaps=list(gaps))
        code, output = await _answer(request)
        if code == 0:
            return GapAnswer.model_validate_json(output).records
        _check(code, output)
        # One of the records is at fault: its half is halved until it stands alone.
        first, second = _halves(gaps)
        if second:
            return await self.read(topic, first) + await self.read(topic, second)
        return await self._read_without_headers(request)

    async def _read_without_headers(self, request: GapRequest) -> list[KafkaRecord]:
        """request is for one offset, whose record ends the process that reads it."""
        code, output = await _answer(request.model_copy(update={"with_headers": False}))
        _check(code, output)
        if code == 0:
            return GapAnswer.model_validate_json(output).records
        (gap,) = request.gaps
        return [KafkaRecord.unread(request.topic, gap.partition, gap.first, datetime.now(UTC))]


def _check(code: int, output: bytes) -> None:
    """Raises TransientError unless the process read the records, or ended in a way that a record can bring about: it
    said so, or a signal ended it."""
    if code == UNAVAILABLE:
        raise TransientError(output.decode(errors="replace"))
    if (code > 0 and code != UNREADABLE) or code == -signal.SIGTERM:
        raise TransientError("the process that reads the log failed")


async def _answer(request: GapRequest) -> tuple[int, bytes]:
    """The exit code of a process that reads (negative: the signal that ended it), and its output: its error text where
    the code is UNAVAILABLE."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "orderflow.audit.gap_process",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            output, errors = await process.communicate(request.model_dump_json().encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise TransientError("Kafka sends no records") from None
    code = process.returncode or 0
    return code, errors if code == UNAVAILABLE else output


def _halves(gaps: Sequence[Gap]) -> tuple[list[Gap], list[Gap]]:
    """The second half is empty where the gaps have only one offset."""
    middle = sum(gap.end - gap.first for gap in gaps) // 2
    first: list[Gap] = []
    second: list[Gap] = []
    for gap in gaps:
        split = min(gap.end, gap.first + middle)
        middle -= split - gap.first
        if split > gap.first:
            first.append(Gap(partition=gap.partition, first=gap.first, end=split))
        if gap.end > split:
            second.append(Gap(partition=gap.partition, first=split, end=gap.end))
    return (first, second) if first else (second, [])
