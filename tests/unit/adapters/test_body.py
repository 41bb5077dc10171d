"""Our own reading of request bodies and derivation of ids give the same results as the libraries' functions."""

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request

from orderflow.adapters.http import body
from orderflow.messaging.cloudevent import NAMESPACE, derived_id


def request_of(*messages: dict[str, Any]) -> Request:
    remaining = list(messages)

    async def receive() -> dict[str, Any]:
        return remaining.pop(0)

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


def part(content: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": content, "more_body": more}


async def test_a_body_in_one_part_or_in_several_is_read_whole() -> None:
    assert await body.read(request_of(part(b"one", more=False))) == b"one"
    several = request_of(part(b"o", more=True), part(b"", more=True), part(b"ne", more=False))
    assert await body.read(several) == b"one"
    assert await body.read(request_of({"type": "http.request"})) == b""


async def test_a_body_is_read_no_further_than_allowed() -> None:
    assert await body.read(request_of(part(b"1234", more=False)), 4) == b"1234"
    endless = request_of(part(b"123", more=True), part(b"45", more=True))
    with pytest.raises(body.TooLargeError):
        await body.read(endless, 4)


async def test_a_client_that_left_in_the_middle_of_its_body_is_told_apart() -> None:
    with pytest.raises(ClientDisconnect):
        await body.read(request_of(part(b"1", more=True), {"type": "http.disconnect"}))


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=4))
def test_a_derived_id_is_the_uuid5_of_its_parts(parts: list[str]) -> None:
    assert derived_id(*parts) == str(uuid.uuid5(NAMESPACE, "\x1f".join(parts)))
