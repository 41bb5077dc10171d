"""A stage that finishes nothing says so, and one that is only slow or without its database does not."""

import asyncio
import json

import pytest
from starlette.requests import Request
from starlette.responses import Response

from orderflow.adapters.http.liveness import PATH, PATIENCE, Liveness

SECONDS = 0.02


def request(method: str, path: str) -> Request:
    return Request({"type": "http", "method": method, "path": path, "headers": []})


class Stage:
    """Takes so many seconds for a request."""

    def __init__(self, seconds: float, status: int = 204) -> None:
        self.seconds = seconds
        self.status = status

    async def handle(self, _request: Request) -> Response:
        await asyncio.sleep(self.seconds)
        return Response(status_code=self.status)


async def asked(liveness: Liveness) -> int:
    return (await liveness.handle(request("GET", PATH))).status_code


async def longer_than_patience_lasts() -> None:
    await asyncio.sleep(SECONDS * (PATIENCE + 1))


async def test_a_stage_without_requests_is_alive() -> None:
    liveness = Liveness(Stage(0), SECONDS)
    await longer_than_patience_lasts()
    assert await asked(liveness) == 204


async def test_a_stage_that_hangs_is_not_alive_and_says_so_in_its_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    liveness = Liveness(Stage(60), SECONDS)
    hanging = asyncio.create_task(liveness.handle(request("POST", "/")))
    await asyncio.sleep(0)
    assert await asked(liveness) == 204
    await longer_than_patience_lasts()
    answer = await liveness.handle(request("GET", PATH))
    assert (answer.status_code, json.loads(bytes(answer.body))["code"]) == (503, "stuck")
    assert "no request was finished in time" in caplog.text
    hanging.cancel()


async def test_a_stage_whose_every_request_runs_into_its_time_limit_is_not_alive() -> None:
    liveness = Liveness(Stage(SECONDS * 1.5, status=503), SECONDS)
    for _ in range(PATIENCE):
        await liveness.handle(request("POST", "/"))
    assert await asked(liveness) == 503


async def test_a_stage_that_refuses_in_time_is_alive() -> None:
    liveness = Liveness(Stage(0, status=503), SECONDS)
    for _ in range(PATIENCE + 2):
        await liveness.handle(request("POST", "/"))
        await asyncio.sleep(SECONDS)
    assert await asked(liveness) == 204


async def test_one_request_that_is_finished_in_time_is_enough() -> None:
    stage = Stage(60)
    liveness = Liveness(stage, SECONDS)
    hanging = asyncio.create_task(liveness.handle(request("POST", "/")))
    await longer_than_patience_lasts()
    stage.seconds = 0
    await liveness.handle(request("POST", "/"))
    assert await asked(liveness) == 204
    hanging.cancel()
