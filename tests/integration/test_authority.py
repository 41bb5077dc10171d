"""Nobody acts for another: keys, sources and owners at intake and behind it, replays that no operator sent, and one
client with two keys. Two shops share the system; intake, validate, track, shelve and query are processes, on a real
Kafka and PostgreSQL."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.events import event, order, paid
from support.flow import Flow, flow
from support.stage import Stage, rules_file

from orderflow.adapters.http.api_keys import new_key, toml
from orderflow.domain.authority import ROLES
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow_sandbox.servers.postgres import create_database, drop_database

PREFIX = f"{uuid.uuid4().hex[:8]}-"
"""Of the order ids of both shops: the broker is everyone's."""
ONE, TWO = f"{PREFIX}1-", f"{PREFIX}2-"
SHOP_1, SHOP_2, PAYMENTS, WAREHOUSE = (
    "/storefront/shop-1",
    "/storefront/shop-2",
    "/payments/acme",
    "/warehouse/one",
)
CANARY = "zzyzx"
RULES = f"""
[[authority.owners]]
name = "shop-1"
order_ids = "{ONE}"
[[authority.owners]]
name = "shop-2"
order_ids = "{TWO}"
[[authority.senders]]
sources = ["{SHOP_1}"]
kinds = ["placed", "cancelled"]
owners = ["shop-1"]
[[authority.senders]]
sources = ["{SHOP_2}"]
kinds = ["placed", "cancelled"]
owners = ["shop-2"]
[[authority.senders]]
sources = ["{PAYMENTS}"]
kinds = ["authorised", "paid", "declined", "refunded"]
[[authority.senders]]
sources = ["{WAREHOUSE}"]
kinds = ["packed", "shipped", "delivered", "returned"]
owners = ["shop-1", "shop-2"]
"""
_NUMBERS = iter(range(1000))


def new_order_id(prefix: str = ONE) -> str:
    return f"{prefix}{next(_NUMBERS)}"


@pytest.fixture(scope="module")
def keys() -> dict[str, tuple[str, str]]:
    """By a name of its own, a key and its entry in the key file."""
    made = {
        "shop-1": new_key("shop-1", ["intake"], [SHOP_1], kinds=ROLES["storefront"], owner="shop-1"),
        "shop-1, the next": new_key(
            "shop-1", ["intake"], [SHOP_1], kinds=ROLES["storefront"], owner="shop-1"
        ),
        "shop-2": new_key("shop-2", ["intake"], [SHOP_2]),
        "payment": new_key("psp", ["intake"], [PAYMENTS, SHOP_1], kinds=ROLES["payment"]),
        "no bounds": new_key("old", ["intake"]),
        "many shops": new_key("many", ["intake"], ["/storefront/many"]),
    }
    return {name: (key, toml(entry)) for name, (key, entry) in made.items()}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("rules") / "rules.toml"
    many = '[[authority.senders]]\nsources = ["/storefront/many"]\nkinds = ["placed"]\n'
    file.write_text(rules_file().read_text() + RULES + many)
    return file


@pytest.fixture(scope="module")
def shop(
    kafka_bootstrap: str,
    database_url: str,
    rules: Path,
    keys: dict[str, tuple[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Flow]:
    name = f"test_{uuid.uuid4().hex}"
    url = create_database(database_url, name)
    folder = tmp_path_factory.mktemp("authority")
    key_file = folder / "keys.toml"
    key_file.write_text("".join(entry for _, entry in keys.values()))

    def own(stage: str) -> dict[str, str]:
        of_intake = {"LOCAL_RUN": "false", "API_KEYS_FILE": str(key_file)} if stage == "intake" else {}
        return {"RULES_FILE": str(rules)} | of_intake

    with flow(kafka_bootstrap, url, folder, own, more=("intake",)) as opened:
        opened.prefix = PREFIX
        yield opened
    drop_database(database_url, name)


@pytest.fixture(scope="module")
def key_of(keys: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {name: key for name, (key, _) in keys.items()}


def send(shop: Flow, sent: CloudEvent, key: str) -> httpx.Response:
    """The answer of intake, the same in both modes."""
    intake, header = shop.stages["intake"], {"X-API-Key": key}
    answers = [intake.binary(sent, **header), intake.structured(sent, **header)]
    assert answers[0].status_code == answers[1].status_code
    return answers[0]


def place(shop: Flow, body: dict[str, Any], key: str, idempotency_key: str) -> httpx.Response:
    headers = {"X-API-Key": key, "Idempotency-Key": idempotency_key}
    return shop.stages["intake"].http.post("/orders", json=body, headers=headers)


def placed_by(source: str, order_id: str, /, **changes: Any) -> CloudEvent:
    return event("placed", order_id, order(**changes), source=source)


def an_order(shop: Flow, prefix: str = ONE) -> str:
    """The id of an order that its shop has placed."""
    order_id = new_order_id(prefix)
    shop.publish(placed_by(SHOP_1 if prefix == ONE else SHOP_2, order_id))
    shop.until(lambda: bool(shop.rows("SELECT 1 FROM orders WHERE order_id = %s", order_id)))
    return order_id


def refused(answer: httpx.Response) -> tuple[int, str, str]:
    document = answer.json()
    assert CANARY not in answer.text
    return answer.status_code, document["code"], document["errors"][0]["text"]


def kinds(shop: Flow, order_id: str) -> list[str]:
    rows = shop.rows("SELECT kind FROM history WHERE order_id = %s ORDER BY version", order_id)
    return [row["kind"] for row in rows]


def codes(shop: Flow, order_id: str) -> list[str]:
    return [row["code"] for row in shop.rows("SELECT code FROM parked WHERE order_id = %s", order_id)]


def of_kind(kind: str, order_id: str, source: str) -> CloudEvent:
    if kind == "placed":
        return placed_by(source, order_id)
    money = {"amount": 2900, "currency": "EUR"} if kind in {"authorised", "paid", "refunded"} else {}
    return event(kind, order_id, money, source=source)


ATTACKS = [
    ("shop-2", "paid", SHOP_2, ONE, "no rule lets this source send paid for orders of shop-1"),
    ("shop-2", "cancelled", SHOP_2, ONE, "no rule lets this source send cancelled for orders of shop-1"),
    ("shop-2", "paid", SHOP_2, TWO, "no rule lets this source send paid for orders of shop-2"),
    ("shop-2", "placed", SHOP_2, ONE, "no rule lets this source send placed for orders of shop-1"),
    (
        "shop-2",
        "placed",
        SHOP_2,
        PREFIX,
        "no rule lets this source send placed for an order whose id has no owner's prefix",
    ),
    ("shop-1", "paid", SHOP_1, ONE, "this API key may not send paid"),
    ("shop-1", "cancelled", SHOP_1, TWO, "this API key may send cancelled for orders of shop-1 only"),
    ("payment", "paid", SHOP_1, ONE, "no rule lets this source send paid for orders of shop-1"),
    ("payment", "released", PAYMENTS, ONE, "this API key may not send released"),
    ("no bounds", "released", WAREHOUSE, ONE, "no rule lets this source send released for orders of shop-1"),
]


@pytest.mark.parametrize(
    ("key", "kind", "source", "prefix", "text"),
    # The prefixes are drawn anew in each process, and node ids may not be.
    [pytest.param(*attack, id=f"{attack[0]} {attack[1]}: {attack[4]}") for attack in ATTACKS],
)
def test_at_intake_a_key_that_acts_for_another_is_refused_naming_kind_and_owner(
    shop: Flow, key_of: dict[str, str], key: str, kind: str, source: str, prefix: str, text: str
) -> None:
    """M1: another shop's key sent paid and cancelled for an order: 202, and applied."""
    sent = of_kind(kind, new_order_id(prefix) + CANARY, source)
    assert refused(send(shop, sent, key_of[key])) == (403, "not_authorised", text)


@pytest.mark.parametrize("source", ["/orderflow/operators", "/orderflow/validate", "/orderflow/x"])
def test_no_key_sends_as_one_of_our_own_stages(shop: Flow, key_of: dict[str, str], source: str) -> None:
    sent = event("held", new_order_id(), source=source)
    assert refused(send(shop, sent, key_of["no bounds"]))[:2] == (403, "source_forbidden")


def test_a_key_that_is_bound_to_its_source_still_sends_as_no_other(
    shop: Flow, key_of: dict[str, str]
) -> None:
    sent = placed_by(SHOP_2, new_order_id(TWO))
    assert refused(send(shop, sent, key_of["shop-1"]))[:2] == (403, "source_forbidden")


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("paid", SHOP_2),
        ("cancelled", SHOP_2),
        ("paid", SHOP_1),
        ("cancelled", PAYMENTS),
        ("released", WAREHOUSE),
        ("held", "/orderflow/operators/x"),
        ("refunded", "/orderflow/operators"),
        ("shipped", "/nobody"),
    ],
)
def test_an_event_without_authority_that_a_producer_writes_to_kafka_is_parked_and_changes_nothing(
    shop: Flow, kind: str, source: str
) -> None:
    order_id = an_order(shop)
    before = shop.order(order_id)
    shop.publish(of_kind(kind, order_id, source))
    shop.until(lambda: bool(codes(shop, order_id)))
    after = shop.order(order_id)
    assert codes(shop, order_id) == ["not_authorised"]
    assert (after["status"], after["payment"], kinds(shop, order_id)) == ("accepted", "unpaid", ["accepted"])
    assert after["version"] == before["version"]
    assert shop.rows("SELECT 1 FROM ledger WHERE order_id = %s AND kind = %s", order_id, kind) == []


def test_a_shop_cannot_take_anothers_order_id_in_either_place(shop: Flow, key_of: dict[str, str]) -> None:
    order_id = new_order_id(ONE)
    stolen = placed_by(SHOP_2, order_id, metadata={"gift": "no"})
    assert send(shop, stolen, key_of["shop-2"]).status_code == 403
    assert place(shop, order(order_id=order_id), key_of["shop-2"], order_id).status_code == 403
    shop.publish(stolen)
    shop.until(lambda: codes(shop, order_id) == ["not_authorised"])
    shop.publish(placed_by(SHOP_1, order_id))
    shop.until(lambda: kinds(shop, order_id) == ["accepted"])
    assert codes(shop, order_id) == ["not_authorised"]


def test_the_data_of_an_order_cannot_name_another_owners_order(shop: Flow, key_of: dict[str, str]) -> None:
    order_id, other = new_order_id(ONE), new_order_id(TWO)
    sent = placed_by(SHOP_1, order_id, order_id=other)
    assert refused(send(shop, sent, key_of["shop-1"]))[:2] == (400, "order_id_mismatch")
    shop.publish(sent)
    shop.until(lambda: codes(shop, order_id) == ["order_id_mismatch"])
    assert shop.rows("SELECT 1 FROM orders WHERE order_id = ANY (%s)", [order_id, other]) == []


def test_whoever_has_authority_sells_is_paid_and_ships(shop: Flow, key_of: dict[str, str]) -> None:
    answer = place(shop, order(), key_of["shop-1"], "sells")
    order_id = answer.json()["order_id"]
    assert (answer.status_code, order_id.startswith(ONE)) == (202, True)
    assert send(shop, paid(order_id, source=PAYMENTS), key_of["payment"]).status_code == 202
    shop.publish(event("packed", order_id, source=WAREHOUSE), event("shipped", order_id, source=WAREHOUSE))
    shop.until(lambda: len(kinds(shop, order_id)) == 4)
    assert kinds(shop, order_id) == ["accepted", "paid", "packed", "shipped"]
    assert codes(shop, order_id) == []


def test_operators_hold_release_and_cancel_every_owners_orders(shop: Flow) -> None:
    order_id = an_order(shop, TWO)
    for verb in ("hold", "release", "cancel"):
        answer = shop.act(f"/api/orders/{order_id}/{verb}", {"reason": "looked at"})
        shop.settle()
        assert shop.results(answer)[0]["event_outcome"] == "applied"
    assert kinds(shop, order_id) == ["accepted", "held", "released", "cancelled"]


def test_a_client_that_places_for_several_owners_has_to_give_the_order_id(
    shop: Flow, key_of: dict[str, str]
) -> None:
    answer = place(shop, order(), key_of["many shops"], "many")
    assert refused(answer)[:2] == (400, "order_id_missing")
    assert answer.json()["errors"][0]["field"] == "order_id"
    order_id = new_order_id(TWO)
    assert place(shop, order(order_id=order_id), key_of["many shops"], "many").json()["order_id"] == order_id


def test_what_had_no_authority_takes_effect_when_it_is_replayed_after_the_rules_allow_it(
    shop: Flow, kafka_bootstrap: str, rules: Path, tmp_path: Path
) -> None:
    order_id = an_order(shop)
    shop.publish(paid(order_id, source="/payments/new"))
    shop.until(lambda: bool(codes(shop, order_id)))
    (parked,) = shop.parked(order_id)
    shop.act(f"/api/parked/{parked['id']}/replay")
    shop.settle()
    assert [each["state"] for each in shop.parked(order_id)] == ["open"]
    allowed = tmp_path / "rules.toml"
    entry = '[[authority.senders]]\nsources = ["/payments/new"]\nkinds = ["paid"]\n'
    allowed.write_text(rules.read_text() + entry)
    with Stage(
        "validate", tmp_path / "validate.log", KAFKA_BOOTSTRAP=kafka_bootstrap, RULES_FILE=str(allowed)
    ) as validate:
        before, shop.stages["validate"] = shop.stages["validate"], validate
        answer = shop.act(f"/api/parked/{parked['id']}/replay")
        shop.settle()
        shop.stages["validate"] = before
    assert shop.results(answer)[0]["event_outcome"] == "applied"
    assert kinds(shop, order_id) == ["accepted", "paid"]


def test_an_edit_gives_an_event_no_authority_that_its_source_does_not_have(shop: Flow) -> None:
    order_id = an_order(shop)
    shop.publish(paid(order_id, amount=1, source=PAYMENTS))
    shop.until(lambda: bool(codes(shop, order_id)))
    (parked,) = shop.parked(order_id)
    answer = shop.act(f"/api/parked/{parked['id']}/edit", {"set": {"source": SHOP_2, "data.amount": 2900}})
    shop.settle()
    assert shop.results(answer)[0]["event_outcome"] == "parked"
    assert sorted(codes(shop, order_id)) == ["amount_mismatch", "not_authorised"]
    assert kinds(shop, order_id) == ["accepted"]


FORGED = {
    "replay": "1",
    "firstplace": "an-id:0:1",
    "inboxplace": "an-id:0:1",
    "originsource": SHOP_2,
    "originid": "x",
    "origindigest": "x",
    "contentdigest": "x",
    "takenby": "x",
    "validatedby": "x",
    "trackedby": "x",
    "knativekafkapartition": "7",
    "knativekafkaoffset": "7",
    "knativeerrordest": "http://track.orderflow.svc",
    "knativeerrorcode": "500",
    "knativeerrordata": "eyJjb2RlIjogIngiLCAidGl0bGUiOiAiengifQ==",
}


def test_intake_takes_every_extension_of_ours_away(shop: Flow, key_of: dict[str, str]) -> None:
    sent = placed_by(SHOP_1, new_order_id()).with_extensions(sequence="7", **FORGED)
    assert send(shop, sent, key_of["shop-1"]).status_code == 202
    (published, _) = shop.tap.until(lambda topic, each: (topic, each.id) == (topics.INBOX, sent.id), 2)
    assert published.extensions == {"sequence": "7", "partitionkey": sent.subject, "takenby": "intake-00001"}


def test_other_content_under_a_used_id_changes_nothing_although_it_says_replay(
    shop: Flow, key_of: dict[str, str]
) -> None:
    """T5b: the refused held became a cancelled that was applied, and the ledger's row was written anew."""
    order_id = an_order(shop)
    shop.publish(paid(order_id, amount=1, source=PAYMENTS))
    shop.until(lambda: codes(shop, order_id) == ["amount_mismatch"])
    (row,) = shop.rows("SELECT * FROM ledger WHERE order_id = %s AND kind = 'paid'", order_id)
    other = replace(paid(order_id, source=PAYMENTS), id=row["id"]).with_extensions(replay="1")
    assert send(shop, other, key_of["payment"]).status_code == 202
    shop.publish(other)
    shop.until(lambda: "event_id_reused" in codes(shop, order_id))
    assert shop.order(order_id)["payment"] == "unpaid"
    assert shop.rows("SELECT * FROM ledger WHERE order_id = %s AND kind = 'paid'", order_id) == [row]
    assert row["replays"] is None


def test_an_event_with_a_forged_replay_is_an_event_like_any_other(shop: Flow) -> None:
    """T5: an attribute called `replay` made every refused event decidable again."""
    order_id = an_order(shop)
    cancelled = event("cancelled", order_id, source=SHOP_1).with_extensions(replay="r-1")
    late = event("packed", order_id, source=WAREHOUSE).with_extensions(replay="r-1")
    shop.publish(cancelled, late, late)
    shop.settle()
    shop.until(lambda: len(shop.rows("SELECT 1 FROM ledger WHERE order_id = %s", order_id)) == 3)
    rows = shop.rows("SELECT kind, outcome, replays FROM ledger WHERE order_id = %s", order_id)
    assert {(row["kind"], row["outcome"], row["replays"]) for row in rows} == {
        ("accepted", "applied", None),
        ("cancelled", "applied", None),
        ("packed", "parked", None),
    }
    assert kinds(shop, order_id) == ["accepted", "cancelled"]


@pytest.mark.parametrize("claims", ["another event's replay", "a discard"])
def test_an_action_of_another_event_or_kind_is_no_replay_of_this_one(shop: Flow, claims: str) -> None:
    first, second = an_order(shop), an_order(shop)
    for order_id in (first, second):
        shop.publish(paid(order_id, amount=1, source=PAYMENTS))
        shop.until(lambda order_id=order_id: bool(codes(shop, order_id)))  # type: ignore[misc]
    (parked,) = shop.parked(first)
    verb, body = ("replay", {}) if claims == "another event's replay" else ("discard", {"reason": "no"})
    answer = shop.act(f"/api/parked/{parked['id']}/{verb}", body)
    shop.settle()
    (action,) = shop.results(answer)
    (row,) = shop.rows("SELECT * FROM ledger WHERE order_id = %s AND kind = 'paid'", second)
    other = replace(paid(second, source=PAYMENTS), id=row["id"]).with_extensions(replay=action["id"])
    shop.publish(other)
    shop.until(lambda: "event_id_reused" in codes(shop, second))
    assert kinds(shop, second) == ["accepted"]


def test_a_replay_that_the_last_release_recorded_is_known_by_its_id_alone(shop: Flow) -> None:
    order_id = an_order(shop)
    wrong = paid(order_id, amount=1, source=PAYMENTS)
    shop.publish(wrong)
    shop.until(lambda: bool(codes(shop, order_id)))
    action_id = str(uuid.uuid4())
    shop.rows(
        "INSERT INTO operator_actions (id, request, kind, order_id, by, outcome, occurred_at)"
        " VALUES (%s, 'r', 'replayed', %s, 'anna', 'done', now()) RETURNING 1",
        action_id,
        order_id,
    )
    shop.publish(wrong.with_extensions(replay=action_id))
    shop.until(lambda: bool(shop.rows("SELECT 1 FROM ledger WHERE %s = ANY (replays)", action_id)))


@pytest.mark.parametrize("second", ["another key of the same client", "the same key in quotes"])
def test_one_idempotency_key_of_one_client_is_one_order(
    shop: Flow, key_of: dict[str, str], second: str
) -> None:
    """Two 202s for two orders: a storefront that repeated a request after its API key was replaced, and one whose
    library puts the key into quotes."""
    name = f"cart-{next(_NUMBERS)}"
    keys = ("shop-1", "shop-1, the next" if "another" in second else "shop-1")
    values = (name, name if "another" in second else f'"{name}"')
    answers = [place(shop, order(), key_of[key], value) for key, value in zip(keys, values, strict=True)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    order_id = answers[0].json()["order_id"]
    shop.until(lambda: bool(kinds(shop, order_id)))
    shop.settle()
    assert (kinds(shop, order_id), codes(shop, order_id)) == (["accepted"], [])


def test_two_clients_with_one_idempotency_key_place_two_orders(shop: Flow, key_of: dict[str, str]) -> None:
    answers = [place(shop, order(), key_of[key], "everyones").json() for key in ("shop-1", "shop-2")]
    assert answers[0]["order_id"] != answers[1]["order_id"]


def test_operators_requests_know_a_key_in_quotes_again(shop: Flow) -> None:
    order_id = an_order(shop)
    answers = [
        shop.act(f"/api/orders/{order_id}/hold", {"reason": "odd"}, Idempotency_Key=value).json()
        for value in ("k", '"k"')
    ]
    assert answers[0]["href"] == answers[1]["href"]
    shop.settle()
    assert kinds(shop, order_id) == ["accepted", "held"]


def test_intake_does_not_start_with_a_key_of_an_owner_that_the_rules_do_not_know(
    kafka_bootstrap: str, rules: Path, tmp_path: Path
) -> None:
    key_file = tmp_path / "keys.toml"
    key_file.write_text(toml(new_key("shop-3", ["intake"], owner="shop-3")[1]))
    settings = {"KAFKA_BOOTSTRAP": kafka_bootstrap, "RULES_FILE": str(rules), "API_KEYS_FILE": str(key_file)}
    log = tmp_path / "intake.log"
    with pytest.raises(AssertionError, match="ended"), Stage("intake", log, **settings):
        pass
    (line,) = log.read_text().splitlines()
    assert "API_KEYS_FILE" in line
    assert "shop-3" in line
