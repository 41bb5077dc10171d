"""Reads the records of gaps, whatever they are: a record that cannot be read is named by its place."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from orderflow.adapters.kafka.gap_process import UNAVAILABLE, UNREADABLE, Gap, GapAnswer, GapRequest
from orderflow.adapters.kafka.gaps import size
from orderflow.adapters.kafka.kafka_record import KafkaRecord
from orderflow.errors import TransientError

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Mapping, Sequence
    from typing import Self

_ANSWER_SECONDS: Final = 120.0


class GapReader:
    """Keeps a process that reads, and starts another one where a record ended it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """config has librdkafka's properties."""
        self._config = dict(config)
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def read(self, topic: str, gaps: Sequence[Gap]) -> list[KafkaRecord]:
        """The records in the gaps, by partition in the sequence of the log. Offsets without a record are left out. A
        record that the client library cannot read has `unreadable` set.

        Raises TransientError where Kafka does not answer.
        """
        request = GapRequest(topic=topic, gaps=list(gaps))
        code, output = await self._answer(request)
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
        code, output = await self._answer(request.model_copy(update={"with_headers": False}))
        _check(code, output)
        if code == 0:
            return GapAnswer.model_validate_json(output).records
        (gap,) = request.gaps
        return [KafkaRecord.unread(request.topic, gap.partition, gap.first, datetime.now(UTC))]

    async def _answer(self, request: GapRequest) -> tuple[int, bytes]:
        """The code of the answer and its output. A process that a signal ended has answered UNREADABLE: that is how a
        record ends it. Raises TransientError where the process failed otherwise."""
        process = self._process or await self._start()
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - both are pipes
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                process.stdin.write(request.model_dump_json().encode() + b"\n")
                await process.stdin.drain()
                code, length = map(int, (await process.stdout.readline()).split())
                return code, await process.stdout.readexactly(length)
        except TimeoutError:
            await self._end()
            raise TransientError("Kafka sends no records") from None
        except (OSError, ValueError, asyncio.IncompleteReadError):
            code = await process.wait()
            self._process = None
            if code >= 0 or code == -signal.SIGTERM:
                raise TransientError("the process that reads the log failed") from None
            return UNREADABLE, b""

    async def _start(self) -> Process:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "orderflow.adapters.kafka.gap_process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        self._process.stdin.write(json.dumps(self._config).encode() + b"\n")
        return self._process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()


def _check(code: int, output: bytes) -> None:
    """Raises TransientError where Kafka does not answer."""
    if code == UNAVAILABLE:
        raise TransientError(output.decode(errors="replace"))


def _halves(gaps: Sequence[Gap]) -> tuple[list[Gap], list[Gap]]:
    """The second half is empty where the gaps have only one offset."""
    middle = size(gaps) // 2
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
