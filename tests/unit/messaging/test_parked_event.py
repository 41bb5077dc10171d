"""Whatever comes in can be parked, published and stored: no received is so odd that it disappears."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.events import paid

from orderflow.errors import PoisonError, Reason
from orderflow.messaging import parked_event, topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.messaging.parked_event import ReceivedEvent

WHY = [Reason("code", "field", "a sentence")]
VALUES = st.text(st.characters(max_codepoint=255), max_size=40)


def header(name: str, value: str) -> tuple[bytes, bytes]:
    return f"ce-{name}".encode("latin-1"), value.encode("latin-1")


def error_data(code: Any, title: Any = "title") -> str:
    return base64.b64encode(json.dumps({"code": code, "title": title}).encode()).decode()


def received_event(**attributes: str) -> ReceivedEvent:
    return ReceivedEvent.of_request([header(name, value) for name, value in attributes.items()], b"{}")


@given(
    st.dictionaries(
        st.sampled_from([*parked_event._KNOWN_ATTRIBUTES, "kafkaheaderx", "\x00", "\xe9"]),
        VALUES | st.integers().map(str),
    ),
    VALUES,
    st.binary(max_size=50),
)
def test_any_request_is_parked_as_what_the_shelf_can_read_and_the_database_can_store(
    attributes: dict[str, str], content_type: str, body: bytes
) -> None:
    headers = [header(name, value) for name, value in attributes.items()]
    received = ReceivedEvent.of_request([*headers, (b"content-type", content_type.encode("latin-1"))], body)
    for event in (
        parked_event.dead_letter(received, "r"),
        parked_event.parked(received, stage="track", revision="r", reasons=WHY),
    ):
        parked = parked_event.read(event)
        assert parked.payload == body
        assert all(text.isprintable() for each in parked.attributes.items() for text in each)
        assert all(text.isprintable() for reason in parked.reasons for text in (reason.code, reason.text))


@pytest.mark.parametrize(
    ("partition", "offset", "expected"),
    [
        ("3", "42", (3, 42)),
        (str(2**31 - 1), str(2**63 - 1), (2**31 - 1, 2**63 - 1)),
        (str(2**31), str(2**63), (None, None)),
        ("9" * 5000, "-1", (None, None)),
        ("\xb2", "1e3", (None, None)),
    ],
)
def test_a_place_that_no_database_column_holds_is_left_out(
    partition: str, offset: str, expected: tuple[int | None, int | None]
) -> None:
    received = received_event(knativekafkapartition=partition, knativekafkaoffset=offset)
    parked = parked_event.read(parked_event.parked(received, stage="track", revision="r", reasons=WHY))
    assert (parked.partition, parked.offset) == expected


@pytest.mark.parametrize(
    "data",
    [
        "not base64",
        "\xe9",
        base64.b64encode(b"[" * 1023).decode(),
        base64.b64encode(b'{"code":').decode(),
        base64.b64encode(b"[1]").decode(),
        base64.b64encode(b"\xff\xfe").decode(),
        "",
    ],
)
def test_an_answer_that_says_nothing_usable_gives_the_plain_reason(data: str) -> None:
    parked = parked_event.read(
        parked_event.dead_letter(received_event(knativeerrorcode="500", knativeerrordata=data), "r")
    )
    assert [(reason.code, reason.text) for reason in parked.reasons] == [
        ("dead_letter", "the stage answered 500")
    ]


def test_the_stages_own_reason_is_taken_from_its_answer_made_printable_and_cut() -> None:
    odd = parked_event.read(
        parked_event.dead_letter(received_event(knativeerrordata=error_data("a\x00\ud800b", "t" * 999)), "r")
    )
    assert odd.reasons[0].code == "a\\x00\\ud800b"
    assert len(odd.reasons[0].text) == 200


def test_without_an_answer_the_reason_says_that_there_was_none() -> None:
    parked = parked_event.read(parked_event.dead_letter(received_event(), "r"))
    assert parked.http_code is None
    assert "did not answer" in parked.reasons[0].text


@pytest.mark.parametrize(
    ("url", "stage"),
    [
        ("http://track.orderflow.svc.cluster.local/", "track"),
        ("http://127.0.0.1:8080", "127"),
        ("", "unknown"),
        ("http://" + "x" * 64 + ".svc", "unknown"),
        ("ftp://track", "unknown"),
    ],
)
def test_the_stage_is_the_first_part_of_the_address_that_the_dead_letter_was_for(
    url: str, stage: str
) -> None:
    assert (
        parked_event.read(parked_event.dead_letter(received_event(knativeerrordest=url), "r")).stage == stage
    )


def test_the_largest_received_fits_its_topic() -> None:
    headers = [header(f"kafkaheader{number}", "\xe9" * 9000) for number in range(500)]
    received = ReceivedEvent.of_request([header("id", "kept"), *headers], b"x" * 5_000_000)
    event = parked_event.parked(received, stage="validate", revision="r", reasons=WHY * 100)
    overhead = sum(len(name) + len(str(value)) for name, value in event.kafka_headers())
    assert len(event.data) + overhead < topics.MAX_BYTES
    parked = parked_event.read(event)
    assert parked.attributes["id"] == "kept"
    assert parked.reasons[-1].code == "payload_cut"


def test_a_received_event_is_told_apart_by_its_whole_payload_even_where_only_its_beginning_is_kept() -> None:
    ids = {
        parked_event.parked(
            ReceivedEvent({}, "", b"x" * 200_000 + end),
            stage="s",
            revision="r",
            reasons=WHY,
            max_payload=100_000,
        ).id
        for end in (b"1", b"2")
    }
    assert len(ids) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": "tr\x00ck"},
        {"attributes": {"a": "\x00"}},
        {"content_type": "\x00"},
        {"reasons": [{"code": "\x00", "field": "", "text": ""}]},
        {"reasons": []},
        {"partition": 2**31},
        {"offset": 2**63},
        {"http_code": 1000},
        {"payload": "#"},
        {"more": 1},
    ],
)
def test_what_no_database_could_store_is_refused_by_the_shelf(changes: dict[str, Any]) -> None:
    good = parked_event.parked(ReceivedEvent({}, "", b"x"), stage="track", revision="r", reasons=WHY)
    data = json.dumps(json.loads(good.data) | changes).encode()
    bad = CloudEvent(good.type, good.source, good.id, good.subject, good.time, data)
    with pytest.raises(PoisonError):
        parked_event.read(bad)


def test_only_parked_events_with_a_time_are_shelved() -> None:
    good = parked_event.parked(ReceivedEvent({}, "", b"x"), stage="track", revision="r", reasons=WHY)
    timeless = CloudEvent(good.type, good.source, good.id, good.subject, "", good.data)
    for bad, field in ((timeless, "time"), (paid("o-1"), "type")):
        with pytest.raises(PoisonError) as caught:
            parked_event.read(bad)
        assert caught.value.reasons[0].field == field
