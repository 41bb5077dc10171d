"""Operators' actions over HTTP: query accepts them, shelve executes them, and validate and track decide again."""

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.console import console
from support.events import event, order, paid, placed
from support.flow import Flow, flow

from orderflow.adapters.http import api_keys
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow_sandbox.servers.postgres import create_database, drop_database


@pytest.fixture(scope="module")
def shop(kafka_bootstrap: str, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    name = f"test_{uuid.uuid4().hex}"
    url = create_database(database_url, name)
    with flow(kafka_bootstrap, url, tmp_path_factory.mktemp("operators")) as shop_flow:
        yield shop_flow
    drop_database(database_url, name)


def park_payment(shop: Flow, name: str, amount: int = 1) -> tuple[str, dict[str, Any]]:
    """Sends an order and a payment of another amount, which track parks. Returns the order's id and the payment."""
    order_id = shop.prefix + name
    shop.send(placed(order_id), paid(order_id, amount=amount))
    shop.until(lambda: bool(shop.parked(order_id)))
    (parked,) = shop.parked(order_id)
    return order_id, parked


def park_order(shop: Flow, name: str) -> tuple[str, dict[str, Any]]:
    """Sends an order that validate cannot read, and its payment, which waits. Returns the order's id and the order."""
    order_id = shop.prefix + name
    shop.send(event("placed", order_id, order(total="2900 or so")), paid(order_id))
    shop.until(lambda: bool(shop.parked(order_id)))
    shop.settle()
    (parked,) = shop.parked(order_id)
    return order_id, parked


def parked_events(shop: Flow, order_id: str) -> list[CloudEvent]:
    return [event for topic, event in shop.tap.seen if event.subject == order_id and "parked" in topic]


def test_a_held_order_says_who_held_it_and_why(shop: Flow) -> None:
    order_id = shop.prefix + "hold"
    shop.send(placed(order_id))
    shop.settle()
    answer = shop.act(f"/api/orders/{order_id}/hold", {"reason": "looks odd"}, Orderflow_Operator="anna")
    shop.settle()
    (result,) = shop.results(answer)
    assert (result["kind"], result["by"], result["event_outcome"]) == ("held", "anna", "applied")
    body = shop.order(order_id)
    assert body["status"] == "held"
    assert body["history"][-1]["detail"] == {"by": "anna", "reason": "looks odd"}


def test_the_history_shows_who_asked_for_an_action_without_effect_and_why(shop: Flow) -> None:
    order_id = shop.prefix + "vain"
    shop.send(placed(order_id))
    shop.settle()
    answer = shop.act(f"/api/orders/{order_id}/release", {"reason": "a slip"}, Orderflow_Operator="bob")
    shop.settle()
    (result,) = shop.results(answer)
    assert (result["event_outcome"], result["event_reason"]["code"]) == ("refused", "stale")
    (entry,) = [entry for entry in shop.order(order_id)["timeline"] if entry["kind"] == "released"]
    assert (entry["outcome"], entry["details"]) == ("refused", {"by": "bob", "reason": "a slip"})
    assert "a slip" in shop.query.get(f"/orders/{order_id}").text


def test_an_edited_order_is_validated_again_and_its_waiting_events_are_applied(shop: Flow) -> None:
    order_id, parked = park_order(shop, "mend")
    assert shop.order(order_id)["status"] == "awaited"
    body = {"set": {"data.total": 2900}, "reason": "the total is a number"}
    answer = shop.act(f"/api/parked/{parked['id']}/edit", body, Orderflow_Operator="anna")
    shop.settle()
    (result,) = shop.results(answer)
    assert (result["outcome"], result["event_outcome"]) == ("done", "applied")
    body = shop.order(order_id)
    assert (body["status"], body["payment"]) == ("accepted", "paid")
    assert [change["kind"] for change in body["history"]] == ["accepted", "paid"]
    assert body["history"][0]["id"] == parked["event_id"]
    (entry,) = [entry for entry in body["timeline"] if entry["kind"] == "edited"]
    assert entry["details"] == {"by": "anna", "reason": "the total is a number", "edited": "data.total"}


def test_an_edited_event_is_held_against_the_shops_rules(shop: Flow) -> None:
    order_id, parked = park_order(shop, "rules")
    answer = shop.act(f"/api/parked/{parked['id']}/edit", {"set": {"data.total": 1}})
    shop.settle()
    assert answer.status_code == 202
    assert shop.order(order_id)["status"] == "rejected"


def test_invalid_fields_of_an_edited_event_are_named_and_nothing_is_sent(shop: Flow) -> None:
    order_id, parked = park_order(shop, "lacks")
    answer = shop.act(
        f"/api/parked/{parked['id']}/edit", {"set": {"data.total": 2900, "data.lines.0.quantity": 0}}
    )
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [
        "data.lines.0.quantity",
        "data.lines",
    ]
    shop.settle()
    assert shop.parked(order_id)[0]["state"] == "open"
    assert shop.order(order_id)["actions"] == []


def test_an_edited_payment_that_track_had_parked_takes_effect_under_its_own_id(shop: Flow) -> None:
    order_id, parked = park_payment(shop, "amount")
    answer = shop.act(f"/api/parked/{parked['id']}/edit", {"set": {"data.amount": 2900}})
    shop.settle()
    (result,) = shop.results(answer)
    assert result["event_outcome"] == "applied"
    body = shop.order(order_id)
    assert (body["payment"], body["captured"]) == ("paid", 2900)
    assert [entry["id"] for entry in body["ledger"] if entry["kind"] == "paid"] == [parked["origin_id"]]


def test_an_event_that_fails_again_is_open_again_and_a_redelivered_one_is_not(shop: Flow) -> None:
    order_id, parked = park_payment(shop, "again")
    first = parked_events(shop, order_id)
    answer = shop.act(f"/api/parked/{parked['id']}/replay")
    shop.settle()
    (parked_again,) = shop.parked(order_id)
    assert (
        parked_again["state"],
        parked_again["replays"],
        parked_again["times"],
        parked_again["revision"],
    ) == ("open", 1, 2, "track-00001")
    (result,) = shop.results(answer)
    assert (result["outcome"], result["event_outcome"], result["parked_state"]) == ("done", "parked", "open")
    edited = shop.act(f"/api/parked/{parked['id']}/edit", {"set": {"data.amount": 2900}})
    shop.settle()
    assert shop.order(order_id)["payment"] == "paid"
    assert shop.results(edited)[0]["event_outcome"] == "applied"
    assert shop.results(answer)[0]["event_outcome"] == "parked"
    second = shop.act(f"/api/parked/{parked['id']}/edit", {"set": {"data.amount": 1450}})
    assert second.status_code == 409
    assert "by a replay, an edit or a repair" in second.json()["title"]
    for parked_event in [*first, *parked_events(shop, order_id)]:
        assert shop.stages["shelve"].binary(parked_event).status_code == 204
    assert shop.parked(order_id)[0]["state"] == "replayed"


def test_a_discarded_event_stays_discarded_and_is_not_replayed(shop: Flow) -> None:
    order_id, parked = park_payment(shop, "discard")
    answer = shop.act(f"/api/parked/{parked['id']}/discard", {"reason": "a test"}, Orderflow_Operator="bob")
    shop.settle()
    assert shop.results(answer)[0]["outcome"] == "done"
    for parked_event in parked_events(shop, order_id):
        assert shop.stages["shelve"].binary(parked_event).status_code == 204
    assert shop.parked(order_id)[0]["state"] == "discarded"
    assert shop.act(f"/api/parked/{parked['id']}/replay").status_code == 409
    assert shop.act("/api/parked/replay", {"order": order_id}).json()["taken"] == []
    (entry,) = [entry for entry in shop.order(order_id)["timeline"] if entry["kind"] == "discarded"]
    assert entry["details"] == {"by": "bob", "reason": "a test"}


def test_two_operators_who_replay_at_once_replay_once(shop: Flow) -> None:
    order_id = shop.prefix + "twice"
    shop.send(placed(order_id), event("shipped", order_id), event("cancelled", order_id))
    shop.until(lambda: bool(shop.parked(order_id)))
    (parked,) = shop.parked(order_id)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: shop.act(f"/api/parked/{parked['id']}/replay"), range(2)))
    shop.settle()
    outcomes = sorted(shop.results(answer)[0]["outcome"] for answer in answers)
    assert outcomes in (
        ["done", "refused"],
        ["done", "done"],
    )  # the second may come after it was parked again
    (parked_again,) = shop.parked(order_id)
    assert parked_again["replays"] == outcomes.count("done")
    assert parked_again["state"] == "open"
    assert len(shop.order(order_id)["history"]) == 2


def test_two_operators_who_edit_at_once_have_one_effect(shop: Flow) -> None:
    order_id, parked = park_payment(shop, "both")
    body = {"set": {"data.amount": 2900}}
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: shop.act(f"/api/parked/{parked['id']}/edit", body), range(2)))
    shop.settle()
    assert sorted(shop.results(answer)[0]["outcome"] for answer in answers) == ["done", "refused"]
    body = shop.order(order_id)
    assert [change["kind"] for change in body["history"]] == ["accepted", "paid"]
    assert body["captured"] == 2900


def test_a_request_that_is_repeated_with_its_key_is_one_request(shop: Flow) -> None:
    order_id, parked = park_payment(shop, "key")
    answers = []
    for _ in range(2):
        answers.append(shop.act(f"/api/parked/{parked['id']}/replay", Idempotency_Key="k-1"))
        shop.settle()
    assert answers[0].json() == answers[1].json()
    assert len(shop.order(order_id)["actions"]) == 1
    assert shop.parked(order_id)[0]["replays"] == 1


def test_an_action_that_is_delivered_again_is_done_once(shop: Flow) -> None:
    order_id, parked = park_payment(shop, "redelivered")
    shop.act(f"/api/parked/{parked['id']}/replay")
    shop.settle()
    (action,) = [event for event in parked_events(shop, order_id) if "replayed" in event.type]
    for _ in range(3):
        assert shop.stages["shelve"].binary(action).status_code == 204
    assert shop.parked(order_id)[0]["replays"] == 1
    shop.settle()
    events = [event for topic, event in shop.tap.seen if topic == topics.EVENTS and event.subject == order_id]
    assert len([event for event in events if "replay" in event.extensions]) == 1


def test_an_action_that_was_recorded_and_perhaps_not_sent_is_sent_again_and_takes_effect_once(
    shop: Flow,
) -> None:
    """Shelve dies after it has recorded that it sends the event, and before or after Kafka has it."""
    order_id, parked = park_order(shop, "died")
    answer = shop.act(f"/api/parked/{parked['id']}/edit", {"set": {"data.total": 2900}})
    (action,) = shop.tap.until(lambda _, event: event.subject == order_id and "edited" in event.type)
    shop.settle()
    for _ in range(2):
        shop.rows("UPDATE operator_actions SET outcome = 'sending' WHERE id = %s RETURNING 1", action.id)
        assert shop.stages["shelve"].binary(action).status_code == 204
        shop.settle()
    sent = [
        each
        for topic, each in shop.tap.seen
        if topic == topics.INBOX and each.extensions.get("replay") == action.id
    ]
    assert len(sent) == 3
    assert len({each.data for each in sent}) == 1
    assert [change["kind"] for change in shop.order(order_id)["history"]] == ["accepted", "paid"]
    assert [(each["outcome"], each["event_outcome"]) for each in shop.results(answer)] == [
        ("done", "applied")
    ]
    assert [each["state"] for each in shop.parked(order_id)] == ["replayed"]


def test_an_event_that_is_parked_again_while_its_replay_is_being_sent_is_open(shop: Flow) -> None:
    order_id, parked = park_payment(shop, "overtaken")
    (first,) = parked_events(shop, order_id)
    answer = shop.act(f"/api/parked/{parked['id']}/replay")
    (action,) = shop.tap.until(lambda _, event: event.subject == order_id and "replayed" in event.type)
    assert shop.stages["shelve"].binary(action).status_code == 204
    shop.rows("UPDATE operator_actions SET outcome = 'sending' WHERE id = %s RETURNING 1", action.id)
    data = json.loads(first.data)
    data["attributes"]["replay"] = action.id
    parked_again = replace(first, data=json.dumps(data).encode())
    for delivery in (parked_again, action):
        assert shop.stages["shelve"].binary(delivery).status_code == 204
    assert shop.parked(order_id)[0]["state"] == "open"
    assert shop.results(answer)[0]["outcome"] == "done"
    shop.settle()
    assert shop.parked(order_id)[0]["state"] == "open"


def test_a_replay_that_no_operator_sent_is_not_taken_for_the_answer_to_one(shop: Flow) -> None:
    order_id, parked = park_order(shop, "claimed")
    sent = event("placed", order_id, order(total="2900 or so"), id=parked["event_id"])
    shop.send(sent.with_extensions(replay="forged"))
    shop.settle()
    rows = shop.rows("SELECT times, returned FROM parked WHERE order_id = %s", order_id)
    assert rows == [{"times": 2, "returned": None}]


def test_an_action_whose_event_is_being_sent_is_under_way_everywhere(shop: Flow) -> None:
    order_id, parked = park_payment(shop, "sending")
    answer = shop.act(f"/api/parked/{parked['id']}/replay")
    (action,) = shop.tap.until(lambda _, event: event.subject == order_id and "replayed" in event.type)
    assert shop.stages["shelve"].binary(action).status_code == 204
    shop.rows("UPDATE operator_actions SET outcome = 'sending' WHERE id = %s RETURNING 1", action.id)
    shop.rows("UPDATE parked SET stage = 'notify' WHERE id = %s RETURNING 1", parked["id"])
    (result,) = shop.results(answer)
    assert (result["outcome"], result["event_outcome"]) == ("sending", None)
    page = shop.query.get(f"/parked/{parked['id']}").text
    assert "under way" in page
    assert "being sent" in page
    (entry,) = [each for each in shop.order(order_id)["timeline"] if each["kind"] == "replayed"]
    assert entry["outcome"] == "sending"
    shop.rows("UPDATE parked SET stage = 'track' WHERE id = %s RETURNING 1", parked["id"])
    shop.settle()


def test_an_orders_events_are_replayed_in_the_order_in_which_they_happened(shop: Flow) -> None:
    order_id = shop.prefix + "sequence"
    late, early = (
        event("refunded", order_id, {"amount": amount, "currency": "EUR"}, time=f"2026-11-23T{hour}:00:00Z")
        for amount, hour in ((2000, 12), (1900, 11))
    )
    shop.send(placed(order_id), paid(order_id), late, early)
    shop.settle()
    shop.send(event("refunded", order_id, {"amount": 1500, "currency": "EUR"}, time="2026-11-23T10:30:00Z"))
    shop.until(lambda: len(shop.parked(order_id)) == 2)
    plan = shop.act("/api/parked/replay", {"order": order_id, "dry_run": True})
    assert plan.status_code == 200
    shop.settle()
    assert {event["state"] for event in shop.parked(order_id)} == {"open"}
    answer = shop.act("/api/parked/replay", {"order": order_id})
    parked_ids = [action["parked_id"] for action in answer.json()["taken"]]
    assert parked_ids == [action["parked_id"] for action in plan.json()["taken"]]
    origin_ids = {event["id"]: event["origin_id"] for event in shop.parked(order_id)}
    assert [origin_ids[parked_id] for parked_id in parked_ids][-1] == early.id
    shop.settle()
    replayed_ids = [
        event.extensions["originid"]
        for topic, event in shop.tap.seen
        if topic == "orders.events.v1" and event.subject == order_id and "replay" in event.extensions
    ]
    assert replayed_ids == [origin_ids[parked_id] for parked_id in parked_ids]


def test_a_stages_events_of_one_reason_are_replayed_together(shop: Flow) -> None:
    parked_ids = {park_payment(shop, f"many-{number}")[1]["id"] for number in range(2)}
    answer = shop.act("/api/parked/replay", {"stage": "track", "code": "amount_mismatch"})
    assert parked_ids <= {action["parked_id"] for action in answer.json()["taken"]}
    assert shop.act("/api/parked/replay", {"stage": "track"}).status_code == 400
    assert shop.act("/api/parked/replay", {}).status_code == 400
    shop.settle()


def test_waiting_events_can_be_made_to_wait_longer(shop: Flow) -> None:
    order_id = shop.prefix + "longer"
    shop.send(paid(order_id))
    shop.settle()
    (before,) = shop.rows("SELECT expires_at FROM waiting WHERE order_id = %s", order_id)
    answer = shop.act(f"/api/orders/{order_id}/extend", {"hours": 5, "reason": "the shop is down"})
    shop.settle()
    (after,) = shop.rows("SELECT expires_at FROM waiting WHERE order_id = %s", order_id)
    assert (after["expires_at"] - before["expires_at"]).total_seconds() == 5 * 3600
    assert shop.results(answer)[0]["detail"] == {"hours": 5.0, "events": 1}
    (entry,) = [entry for entry in shop.order(order_id)["timeline"] if entry["kind"] == "extended"]
    assert entry["details"]["reason"] == "the shop is down"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/orders/none-such/hold", {"reason": "x"}, 404),
        ("/api/parked/none-such/replay", {}, 404),
        ("/api/parked/%00/replay", {}, 404),
        ("/api/parked/none-such/discard", {}, 400),
        ("/api/orders/none-such/hold", {}, 400),
        ("/api/orders/none-such/extend", {"hours": -1}, 400),
        ("/api/orders/none-such/hold", {"reason": "x", "more": 1}, 400),
        ("/api/orders/none-such/hold", {"reason": "x" * 100_000}, 413),
        ("/api/audits", {}, 503),
    ],
)
def test_an_action_that_is_not_possible_is_a_problem(
    shop: Flow, path: str, body: dict[str, Any], status: int
) -> None:
    answer = shop.act(path, body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
    ],
)
def test_another_site_cannot_act_through_an_operators_browser(shop: Flow, headers: dict[str, str]) -> None:
    for path in ("/api/orders/x/hold", "/orders/x/hold", "/parked/x/replay"):
        answer = shop.query.post(path, json={"reason": "x"}, headers=headers)
        assert (answer.status_code, "same" in answer.text or "site" in answer.text) == (403, True)


def test_a_form_without_an_origin_is_refused(shop: Flow) -> None:
    assert shop.query.post("/orders/x/hold", data={"reason": "x", "key": "k"}).status_code == 403
    same_origin = {"Origin": str(shop.query.base_url).rstrip("/")}
    assert (
        shop.query.post("/orders/x/hold", data={"reason": "x", "key": "k"}, headers=same_origin).status_code
        == 404
    )


def test_a_form_sent_to_the_api_is_refused(shop: Flow) -> None:
    assert shop.query.post("/api/orders/x/hold", data={"reason": "x"}).status_code == 415


def test_a_form_asks_once_and_acts_once_however_often_it_is_sent(shop: Flow) -> None:
    order_id, parked = park_payment(shop, "form")
    path = f"/parked/{parked['id']}/discard"
    same_origin = {"Sec-Fetch-Site": "same-origin"}
    question = shop.query.get(path).text
    assert "cannot be undone" in question
    key = question.split('name="key" value="')[1].split('"')[0]
    without_reason = shop.query.post(path, data={"key": key, "reason": ""}, headers=same_origin)
    assert without_reason.status_code == 400
    assert "Nothing was sent" in without_reason.text
    with shop.delivering():
        for _ in range(2):
            response = shop.query.post(path, data={"key": key, "reason": "a test"}, headers=same_origin)
            assert response.status_code == 303
    assert "The event is closed, and kept" in shop.query.get(response.headers["location"]).text
    assert len(shop.order(order_id)["actions"]) == 1


def test_an_event_is_edited_on_its_page(shop: Flow) -> None:
    order_id, parked = park_payment(shop, "page")
    path, same_origin = f"/parked/{parked['id']}/edit", {"Sec-Fetch-Site": "same-origin"}
    assert "&#34;amount&#34;: 1," in shop.query.get(path).text
    document = shop.query.get(f"/api/parked/{parked['id']}", params={"reveal": 1}).json()["editable"]
    invalid = shop.query.post(
        path, data={"key": "a", "event": json.dumps(document | {"data": {}})}, headers=same_origin
    )
    assert (invalid.status_code, "data.amount" in invalid.text) == (400, True)
    edited = json.dumps(document | {"data": {"amount": 2900, "currency": "EUR"}})
    with shop.delivering():
        response = shop.query.post(path, data={"key": "a", "event": edited}, headers=same_origin)
    assert "It took effect" in shop.query.get(response.headers["location"]).text
    assert shop.order(order_id)["payment"] == "paid"


def test_personal_data_of_a_parked_event_is_masked_unless_asked_for(shop: Flow) -> None:
    _, parked = park_order(shop, "masked")
    masked = shop.query.get(f"/api/parked/{parked['id']}").text
    assert "Ada" not in masked
    assert "editable" not in masked
    assert "Ada" in shop.query.get(f"/api/parked/{parked['id']}", params={"reveal": 1}).text


def test_a_key_without_the_scope_may_only_read(shop: Flow, tmp_path: Path) -> None:
    order_id, parked = park_payment(shop, "scope")
    reading_key, reading_entry = api_keys.new_key("dashboard", ["query"])
    acting_key, acting_entry = api_keys.new_key("desk", ["query"], act=True)
    keys = tmp_path / "keys.toml"
    keys.write_text(api_keys.toml(reading_entry) + api_keys.toml(acting_entry))
    bootstrap = shop.stages["track"]._environment["KAFKA_BOOTSTRAP"]
    environment = {"KAFKA_BOOTSTRAP": bootstrap, "API_KEYS_FILE": str(keys), "LOCAL_RUN": ""}
    with (
        console(shop.database, tmp_path / "log", **environment) as address,
        httpx.Client(base_url=address, timeout=30) as query,
    ):

        def act(key: str, path: str, body: dict[str, Any]) -> int:
            headers = {"Authorization": f"Bearer {key}", "Orderflow-Operator": "somebody-else"}
            return query.post(path, json=body, headers=headers).status_code

        path = f"/api/parked/{parked['id']}/discard"
        assert query.get(f"/api/parked/{parked['id']}", headers={"X-API-Key": reading_key}).status_code == 200
        page = query.get(f"/parked/{parked['id']}", headers={"X-API-Key": reading_key}).text
        assert "may only read" in page
        assert f"/parked/{parked['id']}/discard" not in page
        assert (
            query.get(f"/parked/{parked['id']}/edit", headers={"X-API-Key": reading_key}).status_code == 403
        )
        assert act(reading_key, path, {"reason": "x"}) == 403
        assert act(reading_key, f"/api/orders/{order_id}/hold", {"reason": "x"}) == 403
        assert act(reading_key, "/api/audits", {}) == 403
        assert act(acting_key, path, {"reason": "x"}) == 202
    shop.settle()
    (action,) = shop.order(order_id)["actions"]
    assert action["by"] == "desk"


def test_without_kafka_it_reads_and_an_action_is_a_503_that_changed_nothing(
    shop: Flow, tmp_path: Path
) -> None:
    order_id, parked = park_payment(shop, "no-kafka")
    with (
        console(shop.database, tmp_path / "log") as address,
        httpx.Client(base_url=address, timeout=30) as query,
    ):
        assert query.get(f"/api/parked/{parked['id']}").status_code == 200
        for path in (f"/api/orders/{order_id}/hold", f"/api/parked/{parked['id']}/discard"):
            answer = query.post(path, json={"reason": "x"})
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
    shop.settle()
    assert shop.parked(order_id)[0]["state"] == "open"
    assert shop.order(order_id)["status"] == "accepted"
    assert shop.order(order_id)["actions"] == []


def test_no_log_has_personal_data_or_what_an_operator_typed(shop: Flow) -> None:
    _, parked = park_order(shop, "quiet")
    shop.act(
        f"/api/parked/{parked['id']}/edit", {"set": {"data.customer.name": "Canary"}, "reason": "Kanarie"}
    )
    shop.settle()
    logs = "".join(file.read_text() for file in shop.logs.glob("*.log"))
    assert "Ada" not in logs
    assert "Canary" not in logs
    assert "Kanarie" not in logs
