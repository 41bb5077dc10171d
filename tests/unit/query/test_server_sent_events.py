"""Server-sent events: what a stream sends, and the limits."""

from collections.abc import Iterator
from typing import Any

from flask import Response

from orderflow.errors import TransientError
from orderflow.query.server_sent_events import EventStreams


def body(response: Response) -> Iterator[str]:
    parts: Any = response.response
    return iter(parts)


def test_a_stream_sends_a_part_again_only_when_it_differs_and_ends_by_itself() -> None:
    answers = iter(["one", "one", "two"])
    waits: list[float] = []
    stream = body(EventStreams(1, seconds=3600, wait=waits.append).response(lambda: {"part": next(answers)}))
    sent = [next(stream) for _ in range(4)]
    assert sent == [
        "retry: 1000\n\n",
        "event: part\ndata: one\n\n",
        ": \n\n",
        "event: part\ndata: two\n\n",
    ]
    assert len(waits) == 2


def test_a_stream_ends_by_itself() -> None:
    stream = body(EventStreams(1, seconds=0).response(lambda: {"part": "x"}))
    assert len(list(stream)) == 2


def test_a_client_beyond_the_limit_gets_the_state_once_and_a_longer_time_to_reconnect() -> None:
    streams = EventStreams(1, seconds=3600)
    first = streams.response(lambda: {"part": "x"})
    second = streams.response(lambda: {"part": "x"})
    assert list(body(second)) == ["retry: 10000\n\n", "event: part\ndata: x\n\n"]
    second.close()
    first.close()
    third = body(streams.response(lambda: {"part": "x"}))
    assert next(third) == "retry: 1000\n\n"


def test_a_slot_is_free_again_though_the_client_left_before_the_first_byte() -> None:
    streams = EventStreams(1, seconds=3600)
    for _ in range(3):
        response = streams.response(lambda: {"part": "x"})
        assert next(body(response)) == "retry: 1000\n\n"
        response.close()
        streams.response(dict).close()


def test_a_customers_text_cannot_begin_a_field_of_the_stream() -> None:
    stream = body(EventStreams(0).response(lambda: {"part": "a\r\nevent: b\rdata: c\n\nd"}))
    next(stream)
    assert [line.split(":")[0] for line in next(stream).strip().split("\n")] == [
        "event",
        "data",
        "data",
        "data",
        "data",
        "data",
    ]


def test_a_stream_reports_that_the_database_is_away_and_continues_when_it_is_back() -> None:
    def away() -> dict[str, str]:
        raise TransientError("away")

    there = {"part": "x"}.copy
    answers = iter([there, away, there])

    def render() -> dict[str, str]:
        return next(answers)()

    stream = body(EventStreams(1, seconds=3600, wait=lambda _: None).response(render))
    sent = [next(stream) for _ in range(4)]
    assert sent[1] == sent[3] == "event: part\ndata: x\n\n"
    assert sent[2].startswith("event: trouble\n")
