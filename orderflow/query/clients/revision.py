"""The client of one revision of a stage: has events judged without effect."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
from pydantic import ValidationError

from orderflow.messaging.judgement import PATH, Judgement
from orderflow.query.clients.questions import Answers
from orderflow.version import user_agent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.query.clients.questions import Question

AT_ONCE: Final = 8
MAX_ANSWER: Final = 4 * 1024 * 1024


class _NoJudgementError(Exception):
    """The message is a clause of our own words."""


class RevisionClient:
    def __init__(self, url: str, token_file: str | None = None) -> None:
        """url has {revision} for the revision's name, token_file {stage} for the stage's."""
        self._url = url
        self._token_file = token_file

    async def judge(
        self, stage: str, revision: str, questions: Sequence[Question], seconds: float
    ) -> Answers:
        """AT_ONCE at once, for so many seconds together. It raises nothing: what cannot be judged is missing."""
        answers = Answers()
        try:
            async with asyncio.timeout(seconds), self._session(stage, revision) as session:
                await self._probe(session)
                async with asyncio.TaskGroup() as tasks:
                    waiting = iter(enumerate(questions))
                    for _ in range(min(AT_ONCE, len(questions))):
                        tasks.create_task(self._work(session, waiting, answers))
        except* TimeoutError:
            answers.failure = f"{revision} did not answer within {seconds:g} s"
        except* _NoJudgementError as errors:
            answers.failure = f"{revision} {errors.exceptions[0]}"
        except* (aiohttp.ClientError, OSError, ValueError) as errors:
            answers.failure = f"{revision} cannot be reached ({type(errors.exceptions[0]).__name__})"
        return answers

    def _session(self, stage: str, revision: str) -> aiohttp.ClientSession:
        headers = {"User-Agent": user_agent("orderflow")}
        if self._token_file is not None:
            token = Path(self._token_file.format(stage=stage)).read_text(encoding="ascii").strip()
            headers["Authorization"] = f"Bearer {token}"
        return aiohttp.ClientSession(
            self._url.format(revision=revision),
            headers=headers,
            connector=aiohttp.TCPConnector(limit=AT_ONCE),
        )

    async def _probe(self, session: aiohttp.ClientSession) -> None:
        """A release that cannot judge answers a GET with 405, but would take the POST for an event."""
        async with session.get(PATH, allow_redirects=False) as response:
            _check(response.status, HTTPStatus.NO_CONTENT)

    async def _work(
        self, session: aiohttp.ClientSession, waiting: enumerate[Question], answers: Answers
    ) -> None:
        for number, question in waiting:
            async with session.post(
                PATH, data=question.body, headers=question.headers, allow_redirects=False
            ) as response:
                _check(response.status, HTTPStatus.OK)
                answer = bytearray()
                async for part in response.content.iter_any():
                    answer += part
                    if len(answer) > MAX_ANSWER:
                        raise _NoJudgementError("answered too much")
            try:
                answers.judgements[number] = Judgement.model_validate_json(bytes(answer))
            except ValidationError:
                raise _NoJudgementError("gave an answer that is no judgement") from None


def _check(status: int, expected: int) -> None:
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
        raise _NoJudgementError("cannot judge: its release has no such route")
    if status != expected:
        raise _NoJudgementError(f"answered {status}")
