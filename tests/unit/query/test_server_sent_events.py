"""Streams that end, and answers that are kept for a moment."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Response

from orderflow.errors import UnavailableError
from orderflow.query.html import theme
from orderflow.query.server_sent_events import Kept, Streams


def body(response: Response) -> Iterator[str]:
    parts: Any = response.response
    return iter(parts)


def test_a_stream_sends_a_part_again_only_when_it_differs_and_ends_by_itself() -> None:
    answers = iter(["one", "one", "two"])
    waits: list[float] = []
    stream = body(Streams(1, seconds=3600, wait=waits.append).response(lambda: {"part": next(answers)}))
    sent = [next(stream) for _ in range(4)]
    assert sent == [
        "retry: 1000\n\n",
        "event: part\ndata: one\n\n",
        ": \n\n",
        "event: part\ndata: two\n\n",
    ]
    assert len(waits) == 2


def test_a_stream_ends_by_itself() -> None:
    stream = body(Streams(1, seconds=0).response(lambda: {"part": "x"}))
    assert len(list(stream)) == 2


def test_whoever_comes_when_all_places_are_taken_gets_one_answer_and_is_told_to_come_later() -> None:
    streams = Streams(1, seconds=3600)
    first = streams.response(lambda: {"part": "x"})
    second = streams.response(lambda: {"part": "x"})
    assert list(body(second)) == ["retry: 10000\n\n", "event: part\ndata: x\n\n"]
    second.close()
    first.close()
    third = body(streams.response(lambda: {"part": "x"}))
    assert next(third) == "retry: 1000\n\n"


def test_a_place_is_free_again_though_the_reader_left_before_the_first_byte() -> None:
    streams = Streams(1, seconds=3600)
    for _ in range(3):
        response = streams.response(lambda: {"part": "x"})
        assert next(body(response)) == "retry: 1000\n\n"
        response.close()
        streams.response(dict).close()


def test_what_a_customer_typed_cannot_begin_a_field_of_the_stream() -> None:
    stream = body(Streams(0).response(lambda: {"part": "a\r\nevent: b\rdata: c\n\nd"}))
    next(stream)
    assert [line.split(":")[0] for line in next(stream).strip().split("\n")] == [
        "event",
        "data",
        "data",
        "data",
        "data",
        "data",
    ]


def test_a_stream_says_that_the_database_is_away_and_goes_on_when_it_is_back() -> None:
    def away() -> dict[str, str]:
        raise UnavailableError("away")

    there = {"part": "x"}.copy
    answers = iter([there, away, there])

    def render() -> dict[str, str]:
        return next(answers)()

    stream = body(Streams(1, seconds=3600, wait=lambda _: None).response(render))
    sent = [next(stream) for _ in range(4)]
    assert sent[1] == sent[3] == "event: part\ndata: x\n\n"
    assert sent[2].startswith("event: trouble\n")


def test_a_costly_answer_is_kept_for_ten_times_as_long_as_it_took() -> None:
    now = [0.0]
    asked = []

    def ask() -> int:
        asked.append(now[0])
        now[0] += 2
        return len(asked)

    kept = Kept(ask, seconds=1, clock=lambda: now[0])
    assert kept.get() == 1
    now[0] = 21.9
    assert kept.get() == 1
    now[0] = 22.1
    assert kept.get() == 2


def test_bootstrap_still_carries_the_dark_colours_where_they_are_taken_from() -> None:
    css = theme.dark_rules(theme.BOOTSTRAP.read_text())
    assert css.startswith("@media (prefers-color-scheme:dark){:root{color-scheme:dark;")
    assert "data-bs-theme" not in css
    with pytest.raises(ValueError, match="no rules"):
        theme.dark_rules("body{color:red}")
