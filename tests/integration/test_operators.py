"""What operators do, over HTTP: query takes it, shelve carries it out, validate and track decide anew."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.events import event, order, paid, placed
from support.flow import Flow, flow

from orderflow import door


@pytest.fixture(scope="module")
def shop(kafka_bootstrap: str, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    with flow(kafka_bootstrap, database_url, tmp_path_factory.mktemp("operators")) as opened:
        yield opened


def park_payment(shop: Flow, name: str, amount: int = 1) -> tuple[str, dict[str, Any]]:
    """A placed order, and its payment of another amount, which is parked."""
    order_id = shop.prefix + name
    shop.send(placed(order_id), paid(order_id, amount=amount))
    shop.until(lambda: bool(shop.parked(order_id)))
    (letter,) = shop.parked(order_id)
    return order_id, letter


def test_a_held_order_says_who_held_it_and_why(shop: Flow) -> None:
    order_id = shop.prefix + "hold"
    shop.send(placed(order_id))
    shop.settle()
    answer = shop.act(f"/api/orders/{order_id}/hold", {"reason": "looks odd"}, Orderflow_Operator="anna")
    assert answer.status_code == 202
    shop.settle()
    (result,) = shop.results(answer)
    assert (result["kind"], result["by"], result["event_outcome"]) == ("held", "anna", "applied")
    told = shop.order(order_id)
    assert told["status"] == "held"
    assert told["history"][-1]["detail"] == {"by": "anna", "reason": "looks odd"}
    again = shop.act(f"/api/orders/{order_id}/hold", {"reason": "once more"})
    shop.settle()
    (result,) = shop.results(again)
    assert (result["event_outcome"], result["event_reason"]["code"]) == ("refused", "stale")
    assert [(a["by"], a["reason"]) for a in shop.order(order_id)["actions"]] == [
        ("anna", "looks odd"),
        ("local", "once more"),
    ]


def test_what_a_replay_does_not_mend_is_open_again_and_a_redelivery_is_not(shop: Flow) -> None:
    order_id, letter = park_payment(shop, "again")
    shop.settle()
    before = [seen for _, seen in shop.tap.seen if seen.subject == order_id and "parked" in seen.type]
    answer = shop.act(f"/api/parked/{letter['id']}/replay")
    shop.settle()
    (now,) = shop.parked(order_id)
    assert (now["state"], now["replays"], now["revision"]) == ("open", 1, "track-00001")
    (result,) = shop.results(answer)
    assert (result["outcome"], result["event_outcome"], result["parked_state"]) == ("done", "parked", "open")
    assert shop.act(f"/api/parked/{letter['id']}/discard", {"reason": "a test"}).status_code == 202
    shop.settle()
    for seen in [*before, *[s for _, s in shop.tap.seen if s.subject == order_id and "parked" in s.type]]:
        assert shop.stages["shelve"].binary(seen).status_code == 204
    assert shop.parked(order_id)[0]["state"] == "discarded"
