"""Which status events notify accepts."""

import json
from dataclasses import replace
from typing import Any

import pytest
from support.statuses import announced

from orderflow.errors import PoisonError
from orderflow.notify.model import read


def test_a_field_that_a_newer_track_adds_is_passed_over() -> None:
    event = announced("accepted")
    newer = json.loads(event.data) | {"warehouse": "north"}
    assert read(replace(event, data=json.dumps(newer).encode())) == read(event)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"source": "/shop/test"}, "source_unknown"),
        ({"type": "dev.orderflow.order.paid.v1"}, "type_mismatch"),
        ({"subject": "another"}, "order_id_mismatch"),
        ({"data": b"no JSON"}, "json_invalid"),
        ({"data": b"{}"}, "missing"),
    ],
)
def test_what_track_did_not_announce_is_poison(change: dict[str, Any], code: str) -> None:
    with pytest.raises(PoisonError) as caught:
        read(replace(announced("accepted"), **change))
    assert caught.value.reasons[0].code == code
