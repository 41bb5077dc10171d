"""How much one API key may send."""

import pytest
from starlette.requests import Request
from starlette.responses import Response

from orderflow.adapters.http.quotas import REFUSAL_SECONDS, Quota, Quotas, TokenBucket

MAX_BODY = 1000


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


class Intake:
    """Answers 202, and counts the requests that it got."""

    def __init__(self, clock: Clock) -> None:
        self.quotas = Quotas(MAX_BODY, clock, self._pause)
        self.handled = 0
        self.pauses: list[float] = []

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def _accept(self) -> Response:
        self.handled += 1
        return Response(status_code=202)

    async def post(self, name: str, quota: Quota | None, size: int | str | None = 10) -> Response:
        headers = [] if size is None else [(b"content-length", str(size).encode())]
        request = Request({"type": "http", "headers": headers})
        return await self.quotas.answer(name, quota, request, self._accept)

    async def statuses(
        self, count: int, name: str, quota: Quota | None, size: int | str | None = 10
    ) -> list[int]:
        return [(await self.post(name, quota, size)).status_code for _ in range(count)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def intake(clock: Clock) -> Intake:
    return Intake(clock)


def test_a_bucket_gains_its_rate_up_to_its_capacity() -> None:
    bucket = TokenBucket(rate=2, capacity=3, now=0)
    bucket.take(3, 0)
    assert bucket.units(1) == 2
    assert bucket.units(100) == 3
    bucket.take(7, 100)
    assert bucket.units(100) == -4
    assert bucket.seconds_until(1, 100) == 2.5


async def test_a_key_gets_its_burst_and_then_its_rate(intake: Intake, clock: Clock) -> None:
    quota = Quota(requests_per_second=2, burst=3)
    assert await intake.statuses(5, "a", quota) == [202, 202, 202, 429, 429]
    clock.now += 1
    assert await intake.statuses(3, "a", quota) == [202, 202, 429]
    assert intake.handled == 5


async def test_a_refusal_comes_after_a_pause_and_an_answer_does_not(intake: Intake) -> None:
    quota = Quota(requests_per_second=1, burst=2)
    assert await intake.statuses(4, "a", quota) == [202, 202, 429, 429]
    assert await intake.statuses(1, "b", quota) == [202]
    assert intake.pauses == [REFUSAL_SECONDS, REFUSAL_SECONDS]


async def test_a_refusal_costs_nothing(intake: Intake, clock: Clock) -> None:
    quota = Quota(requests_per_second=1, burst=1)
    assert await intake.statuses(100, "a", quota) == [202] + 99 * [429]
    clock.now += 1
    assert await intake.statuses(1, "a", quota) == [202]


async def test_bytes_are_counted_and_a_body_of_unknown_length_counts_as_the_largest(
    intake: Intake, clock: Clock
) -> None:
    quota = Quota(bytes_per_second=500)
    assert await intake.statuses(2, "a", quota, size=600) == [202, 429]
    clock.now += 1
    assert await intake.statuses(1, "a", quota, size=10) == [202]
    assert await intake.statuses(2, "b", quota, size=None) == [202, 429]
    clock.now += 1
    assert await intake.statuses(1, "b", quota) == [429]
    clock.now += 1
    assert await intake.statuses(1, "b", quota) == [202]


@pytest.mark.parametrize("size", ["9999", "9" * 5000])
async def test_a_length_beyond_the_largest_body_is_no_debt_for_ever(
    size: str, intake: Intake, clock: Clock
) -> None:
    quota = Quota(bytes_per_second=500)
    assert await intake.statuses(1, "a", quota, size=size) == [202]
    clock.now += 3
    assert await intake.statuses(1, "a", quota) == [202]


async def test_requests_in_flight_are_limited_and_counted_down_even_after_an_error(intake: Intake) -> None:
    quota = Quota(in_flight=1)
    inner: list[Response] = []

    async def slow() -> Response:
        inner.append(await intake.post("a", quota))
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        await intake.quotas.answer("a", quota, Request({"type": "http", "headers": []}), slow)
    assert inner[0].status_code == 429
    assert await intake.statuses(2, "a", quota) == [202, 202]


async def test_one_clients_quota_is_no_other_clients_and_a_second_key_gives_no_more(intake: Intake) -> None:
    quota = Quota(requests_per_second=1, burst=1)
    assert await intake.statuses(2, "a", quota) == [202, 429]
    assert await intake.statuses(1, "b", quota) == [202]
    assert await intake.statuses(1, "a", Quota(requests_per_second=1, burst=1)) == [429]


async def test_a_key_without_a_quota_has_no_limit(intake: Intake) -> None:
    assert set(await intake.statuses(1000, "a", None)) == {202}
    assert "RateLimit" not in (await intake.post("a", None)).headers


async def test_the_answers_say_what_is_left_and_when_to_come_again(intake: Intake) -> None:
    quota = Quota(requests_per_second=0.5, burst=2, bytes_per_second=500, in_flight=9)
    taken = await intake.post("a", quota, size=100)
    assert (
        taken.headers["RateLimit-Policy"]
        == '"in-flight";q=9;qu="concurrent-requests", "requests";q=2;w=4, "bytes";q=500;qu="content-bytes";w=1'
    )
    assert taken.headers["RateLimit"] == '"in-flight";r=9, "requests";r=1;t=2, "bytes";r=400;t=1'
    await intake.post("a", quota)
    refused = await intake.post("a", quota)
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "2"
    assert '"requests";r=0;t=2' in refused.headers["RateLimit"]
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert b'"code": "quota_exceeded"' in refused.body
