"""The stable revision judges again what a canary has judged, on a real Kafka and PostgreSQL, by real stages."""

import asyncio
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Message, Producer
from pydantic import SecretStr
from support.events import event, paid, placed
from support.flow import Flow, flow
from support.history import RecordingPublisher
from support.places import places
from support.stage import Stage, binary_headers, rules_file

from orderflow.adapters.kafka.log import Log
from orderflow.adapters.postgres.pool import Database
from orderflow.adapters.postgres.schema import migrate
from orderflow.domain.rules import Rules, Waiting
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import STRUCTURED, CloudEvent
from orderflow.messaging.judgement import readable
from orderflow.messaging.places import Place
from orderflow.query.clients.questions import Question
from orderflow.query.clients.revision import RevisionClient
from orderflow.query.clients.topic_records import TopicRecords
from orderflow.query.shadow.comparison import SECONDS, Page, Shadow
from orderflow.query.shadow.report import ShadowReport
from orderflow.query.shadow.stages import Release
from orderflow.query.store.reader import Reader
from orderflow.settings import DatabaseSettings, QuerySettings, read_toml
from orderflow.track.handler import Tracker
from orderflow.track.store import OrderStore
from orderflow.validate.handler import validate
from orderflow_sandbox.address import free_port
from orderflow_sandbox.messages import Transport
from orderflow_sandbox.sandbox import create_order_topics
from orderflow_sandbox.scenarios import order_scenarios

Tampering = Callable[[CloudEvent], CloudEvent]


@dataclass
class Shop:
    """Topics, a database, and the stable revision of each stage. The canary's work is done by the test."""

    bootstrap: str
    database: str
    stable_database: str
    reader: Reader
    clients: dict[str, RevisionClient]
    suffix: str = field(default_factory=lambda: uuid.uuid4().hex[:10])
    since: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(seconds=5))

    def __post_init__(self) -> None:
        self.producer = Producer({"bootstrap.servers": self.bootstrap, "partitioner": "murmur2_random"})
        self.topic_ids: dict[str, str] = {}

    def canary(self, stage: str) -> str:
        return f"{stage}-{self.suffix}"

    def publish(self, topic: str, event: CloudEvent) -> CloudEvent:
        """The event as it is delivered: with its place."""
        written: list[Message] = []
        self.producer.produce(
            topic,
            event.data,
            event.key,
            headers=event.kafka_headers(),
            on_delivery=lambda _, message: written.append(message),
        )
        assert self.producer.flush(20) == 0
        place = Place(self._topic_id(topic), written[0].partition() or 0, written[0].offset() or 0)
        return replace(event, place=place)

    def _topic_id(self, topic: str) -> str:
        if topic not in self.topic_ids:
            self.topic_ids[topic] = Log({"bootstrap.servers": self.bootstrap}).describe(topic).topic_id
        return self.topic_ids[topic]

    def validated(self, event: CloudEvent, tamper: Tampering = lambda event: event) -> CloudEvent:
        """The inbox event through the canary of validate."""
        made = validate(self.publish(topics.INBOX, event), RULES, self.canary("validate"))
        return self.publish(topics.EVENTS, tamper(made))

    def tracked(self, *events: CloudEvent) -> None:
        """Through the canary of track, as it should be."""

        async def take() -> None:
            database = Database(DatabaseSettings(database_url=SecretStr(self.database)))
            revision = self.canary("track")
            store = OrderStore(database, revision=revision, waiting=Waiting())
            tracker = Tracker(store, RecordingPublisher(), places(), revision)
            try:
                for event in events:
                    await tracker.handle(event)
            finally:
                await database.close()

        asyncio.run(take())

    def execute(self, statement: str, *values: Any) -> None:
        with psycopg.connect(self.database) as connection:
            assert connection.execute(statement, values).rowcount > 0  # type: ignore[arg-type]

    def release(self, stage: str) -> Release:
        return Release(stage, self.canary(stage), f"{stage}-00001", self.since)

    def comparing(self, client: RevisionClient | None, seconds: float = SECONDS) -> Shadow:
        return Shadow(self.reader, TopicRecords({"bootstrap.servers": self.bootstrap}), client, seconds)

    def shadow(self, stage: str) -> Shadow:
        return self.comparing(self.clients[stage])

    def compare(self, stage: str, size: int = 50, minimum: int = 1) -> ShadowReport:
        return self.shadow(stage).sample(self.release(stage), size, minimum)


PARKED = """
    INSERT INTO parked (id, order_id, stage, revision, reasons, code, event_type, source, event_id, topic, attributes,
                        payload, parked_at)
    VALUES (%s, %s, %s, %s, %s, %s, '', '', '', '', %s, %s, now())
"""
RULES = read_toml(Rules, rules_file(), "RULES_FILE")


@pytest.fixture(scope="module")
def stable(
    kafka_bootstrap: str, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Stage]]:
    create_order_topics(kafka_bootstrap, 4)
    migrate(database_url)
    folder = tmp_path_factory.mktemp("stable")
    environment = {"KAFKA_BOOTSTRAP": kafka_bootstrap, "DATABASE_URL": database_url}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(Stage(name, folder / f"{name}.log", **environment))
            for name in ("validate", "track")
        }


@pytest.fixture
def shop(
    kafka_bootstrap: str, database_url: str, fresh_database: str, stable: dict[str, Stage]
) -> Iterator[Shop]:
    migrate(fresh_database)
    settings = QuerySettings(database_url=SecretStr(fresh_database), kafka_bootstrap=kafka_bootstrap)
    reader = Reader(settings)
    clients = {name: RevisionClient(f"http://127.0.0.1:{stage.port}") for name, stage in stable.items()}
    yield Shop(kafka_bootstrap, fresh_database, database_url, reader, clients)
    reader.close()


def of(report: ShadowReport) -> dict[str, int]:
    return {difference.reason: difference.count for difference in report.differences}


def changed(change: Callable[[dict[str, Any]], None], kind: str = "") -> Tampering:
    """Changes the data of an event and, with kind, the verdict."""

    def tamper(event: CloudEvent) -> CloudEvent:
        data = json.loads(event.data)
        change(data)
        event_type = f"dev.orderflow.order.{kind}.v1" if kind else event.type
        return replace(event, type=event_type, data=json.dumps(data).encode())

    return tamper


def dearer(data: dict[str, Any]) -> None:
    data["order"]["lines"][0]["unit_price"] += 1
    data["order"]["total"] += 2


def rejected(data: dict[str, Any]) -> None:
    data["reasons"] = [{"code": "out_of_stock", "field": "lines.0.sku", "text": "it is out of stock"}]


def accepted(data: dict[str, Any]) -> None:
    del data["reasons"]


def renamed(data: dict[str, Any]) -> None:
    data["order"]["customer"]["name"] = "A. Lovelace"


FAULTS: dict[str, tuple[dict[str, Any], Tampering, str]] = {
    "accepts everything": (
        {"total": 2901},
        changed(accepted, "accepted"),
        "accepted instead of rejected: total_mismatch",
    ),
    "rejects": ({}, changed(rejected, "rejected"), "rejected instead of accepted: out_of_stock"),
    "for another reason": (
        {"total": 2901},
        changed(rejected),
        "other reasons: out_of_stock instead of total_mismatch",
    ),
    "changes a price": ({}, changed(dearer), "order.lines.unit_price differs"),
    "changes a name": ({}, changed(renamed), "order.customer.name differs"),
    "drops a field": ({}, changed(lambda data: data["order"].pop("shipping")), "order.shipping is missing"),
    "adds a field": (
        {},
        changed(lambda data: data["order"].update(loyalty="gold")),
        "order.loyalty is new",
    ),
    "total as text": (
        {},
        changed(lambda data: data["order"].update(total=str(data["order"]["total"]))),
        "order.total differs",
    ),
    "changes metadata": (
        {"metadata": {"gift": "yes"}},
        changed(lambda data: data["order"]["metadata"].update(gift="no")),
        "order.metadata differs",
    ),
    "drops the sequence": ({}, lambda event: event.without_extensions("sequence"), "sequence is missing"),
    "another order": ({}, lambda event: replace(event, subject=f"{event.subject}x"), "subject differs"),
    "another digest": (
        {},
        lambda event: event.with_extensions(contentdigest="2:00"),
        "the digest of the content differs",
    ),
    "another time": ({}, lambda event: replace(event, time="2026-11-23T10:00:01Z"), "time differs"),
    "no JSON": ({}, lambda event: replace(event, data=b"{"), "unreadable instead of accepted"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_validate_is_a_difference_with_its_reason_and_its_orders(
    shop: Shop, fault: str
) -> None:
    changes, tamper, reason = FAULTS[fault]
    for number in range(3):
        event = replace(placed(f"{shop.suffix}-{number}", **changes), extensions={"sequence": "1"})
        shop.validated(event, tamper if number == 1 else lambda event: event)
    report = shop.compare("validate")
    assert report.verdict == "different"
    assert reason in of(report)
    assert report.compared == 3
    assert {order_id for each in report.differences for order_id in each.orders} == {f"{shop.suffix}-1"}


def test_what_the_canary_rejects_is_in_the_sample_however_rare_it_is(shop: Shop) -> None:
    for number in range(40):
        shop.validated(
            placed(f"{shop.suffix}-{number}"),
            changed(rejected, "rejected") if number == 0 else lambda event: event,
        )
    report = shop.compare("validate", size=10)
    assert (report.compared, of(report)) == (10, {"rejected instead of accepted: out_of_stock": 1})


def test_an_equal_canary_is_fine_and_one_with_too_few_events_is_too_few(shop: Shop) -> None:
    assert shop.compare("validate", minimum=1).verdict == "too_few"
    event = placed(f"{shop.suffix}-1")
    shop.validated(replace(event, time=""))
    shop.validated(replace(event, id="other", time="2026-11-23T12:00:00.0+02:00"))
    report = shop.compare("validate", minimum=2)
    assert (report.verdict, report.compared, of(report)) == ("fine", 2, {})
    assert shop.compare("validate", minimum=3).sentence.endswith("1 more are needed.")


def test_all_different_verdicts_are_listed_page_by_page(shop: Shop) -> None:
    for number in range(30):
        shop.validated(
            placed(f"{shop.suffix}-{number}"), changed(dearer) if number % 3 == 0 else lambda event: event
        )
    release, shadow = shop.release("validate"), shop.shadow("validate")
    pages: list[Page] = [shadow.page(release, None)]
    while pages[-1].next is not None:
        pages.append(shadow.page(release, pages[-1].next))
    assert sum(page.report.compared for page in pages) == 30
    listed = [other for page in pages for other in page.report.others]
    assert sorted(other.order_id for other in listed) == sorted(f"{shop.suffix}-{n}" for n in range(0, 30, 3))
    assert listed[0].canary == listed[0].stable == {"outcome": "accepted", "reasons": []}


def test_an_equal_track_is_fine_whatever_becomes_of_its_events(shop: Shop) -> None:
    order_id = f"{shop.suffix}-1"
    first = placed(order_id)
    numbered = [replace(paid(order_id), extensions={"sequence": number}) for number in ("5", "4")]
    events = (
        event("shipped", order_id),  # waits, and is applied when the order is placed
        event("held", order_id),
        first,
        replace(first, id="again"),  # refused
        event("placed", order_id, json.loads(first.data) | {"metadata": {"gift": "yes"}}),  # parked
        *numbered,  # the second is refused: stale
        replace(event("refunded", order_id, {"amount": 5, "currency": "EUR"}), extensions={"sequence": "3"}),
        event("refunded", order_id, {"amount": 2900, "currency": "EUR"}),
        event("delivered", f"{shop.suffix}-2"),  # waits for ever
    )
    other_id = f"{shop.suffix}-3"
    kinds = ("packed", "held", "packed", "released", "shipped", "cancelled")
    others = (placed(other_id), *(event(kind, other_id) for kind in kinds))
    shop.tracked(*(shop.validated(each) for each in (*events, *others)))
    report = shop.compare("track")
    assert (report.verdict, of(report)) == ("fine", {})
    # Two that had waited were parked and refused in one step with the event that they had waited for.
    assert report.compared == len(events) + len(others) - 2


def test_an_event_that_the_canary_parks_and_stable_would_take_is_a_difference(shop: Shop) -> None:
    wrong = placed(f"{shop.suffix}-1", total="12")
    right = placed(f"{shop.suffix}-2")
    for number, each in enumerate((wrong, right)):
        attributes = json.dumps(each.attributes() | {"datacontenttype": each.content_type})
        code, name = ("int_type", "total") if number == 0 else ("extra_forbidden", "customer.vip")
        reasons = json.dumps([{"code": code, "field": name, "text": ""}])
        shop.execute(
            PARKED,
            str(number),
            each.subject,
            "validate",
            shop.canary("validate"),
            reasons,
            code,
            attributes,
            each.data,
        )
    report = shop.compare("validate")
    assert (report.compared, of(report)) == (2, {"parked instead of accepted: extra_forbidden": 1})


def test_an_event_that_the_canary_of_track_cannot_read_and_stable_can_is_a_difference(shop: Shop) -> None:
    made = shop.validated(placed(f"{shop.suffix}-1"))
    reasons = json.dumps([{"code": "extra_forbidden", "field": "order.shipping", "text": ""}])
    attributes = json.dumps(made.attributes() | {"datacontenttype": made.content_type})
    shop.execute(
        PARKED,
        "1",
        made.subject,
        "track",
        shop.canary("track"),
        reasons,
        "extra_forbidden",
        attributes,
        made.data,
    )
    assert of(shop.compare("track")) == {"parked instead of applied: extra_forbidden": 1}


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        pytest.param(
            'UPDATE history SET captured = 2 * captured, detail = \'{"amount": 5800, "currency": "EUR"}\''
            " WHERE kind = 'paid'",
            "captured differs",
            id="doubles the amount",
        ),
        pytest.param(
            "UPDATE history SET status = 'shipped' WHERE kind = 'paid'", "status differs", id="status"
        ),
        pytest.param(
            "UPDATE history SET payment = 'unpaid' WHERE kind = 'paid'", "payment differs", id="payment"
        ),
        pytest.param("UPDATE orders SET total = 1", "total differs", id="total"),
        pytest.param(
            "UPDATE orders SET document = jsonb_set(document::jsonb, '{customer,name}', '\"X\"')::json",
            "document.customer.name differs",
            id="document",
        ),
        pytest.param(
            "UPDATE ledger SET outcome = 'refused', first_version = NULL, last_version = NULL WHERE kind = 'paid'",
            "refused instead of applied",
            id="refuses",
        ),
        pytest.param(
            "UPDATE ledger SET outcome = 'waiting' WHERE kind = 'cancelled'",
            "waiting instead of refused: stale",
            id="waits",
        ),
        pytest.param(
            "WITH wrong AS (UPDATE ledger SET outcome = 'applied', reason = NULL, first_version = 4, last_version = 4"
            " WHERE kind = 'shipped' RETURNING *)"
            " INSERT INTO history (order_id, version, source, id, kind, status, payment, captured, refunded, detail,"
            " revision, occurred_at) SELECT order_id, 4, source, id, kind, 'shipped', 'paid', 2900, 0, '{}', revision,"
            " occurred_at FROM wrong",
            "applied instead of parked: forbidden_transition",
            id="applies what is forbidden",
        ),
    ],
)
def test_each_fault_of_track_is_a_difference_even_if_all_that_it_writes_agrees(
    shop: Shop, statement: str, reason: str
) -> None:
    order_id = f"{shop.suffix}-1"
    events = (
        placed(order_id),
        paid(order_id),
        event("cancelled", order_id),
        event("cancelled", order_id),
        event("shipped", order_id),
    )
    shop.tracked(*(shop.validated(each) for each in events))
    assert of(shop.compare("track")) == {}
    shop.execute(statement)
    report = shop.compare("track")
    assert report.verdict == "different"
    assert reason in of(report)


def test_equal_releases_judge_the_scenarios_of_the_sandbox_alike(
    kafka_bootstrap: str, fresh_database: str, tmp_path: Path
) -> None:
    suffix = uuid.uuid4().hex[:10]
    since = datetime.now(UTC) - timedelta(seconds=5)
    with flow(
        kafka_bootstrap, fresh_database, tmp_path, lambda name: {"K_REVISION": f"{name}-{suffix}"}
    ) as shop:
        _publish_scenarios(shop)
        shop.settle()
        settings = QuerySettings(database_url=SecretStr(fresh_database), kafka_bootstrap=kafka_bootstrap)
        reader = Reader(settings)
        records = TopicRecords({"bootstrap.servers": kafka_bootstrap})
        reports = {}
        for stage in ("validate", "track"):
            shadow = Shadow(reader, records, RevisionClient(f"http://127.0.0.1:{shop.stages[stage].port}"))
            release = Release(stage, f"{stage}-{suffix}", f"{stage}-{suffix}", since)
            reports[stage] = shadow.sample(release, 500, 100)
        reader.close()
        outcomes = {row["outcome"] for row in shop.rows("SELECT outcome FROM ledger")}
    assert {stage: of(report) for stage, report in reports.items()} == {"validate": {}, "track": {}}
    assert {stage: report.verdict for stage, report in reports.items()} == {
        "validate": "fine",
        "track": "fine",
    }
    assert outcomes >= {"applied", "refused", "parked"}


def _publish_scenarios(shop: Flow) -> None:
    """Every second order's events are numbered in the sequence in which they happened. One order is placed twice, under
    two ids."""
    scenarios = order_scenarios(40, 7, shop.prefix.rstrip("-"), datetime(2026, 11, 23, 8, 0, tzinfo=UTC))
    for number, scenario in enumerate(scenarios):
        events = [each.event for each in scenario.messages if each.transport is not Transport.RAW]
        times = sorted({each.time for each in events})
        for each in events:
            numbered = {"sequence": str(times.index(each.time))} if number % 2 else {}
            shop.publish(replace(each, extensions=numbered))
        if number == 0:
            shop.publish(replace(events[0], id=f"{events[0].id}-again"))


class _Answers(BaseHTTPRequestHandler):
    """Answers each request with the status of its server. Without a status it says nothing more after a first line."""

    server: "_Revision"

    def answer(self) -> None:
        self.server.methods.append(self.command)
        if self.server.status is None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            self.server.released.wait()
            return
        self.send_response(self.server.status)
        self.end_headers()

    do_GET = do_POST = answer  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None:
        pass


class _Revision(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, status: int | None) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.status = status
        self.methods: list[str] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def revision() -> Iterator[Callable[[int | None], _Revision]]:
    servers: list[_Revision] = []

    def start(status: int | None) -> _Revision:
        servers.append(_Revision(status))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.released.set()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (405, "cannot judge: its release has no such route"),
        (404, "cannot judge: its release has no such route"),
        (503, "answered 503"),
        (302, "answered 302"),
        (200, "answered 200"),
        (None, "did not answer within 1 s"),
    ],
)
def test_a_revision_that_cannot_judge_is_said_why_and_gets_no_event(
    revision: Callable[[int | None], _Revision], status: int | None, why: str
) -> None:
    server = revision(status)
    question = Question({}, placed("o-1").data)
    answers = asyncio.run(RevisionClient(server.url).judge("validate", "validate-00001", [question], 1))
    assert (answers.judgements, answers.failure) == ({}, f"validate-00001 {why}")
    assert set(server.methods) == {"GET"}


def test_a_stable_revision_that_is_away_is_unknown(shop: Shop) -> None:
    shop.validated(placed(f"{shop.suffix}-1"))
    away = RevisionClient(f"http://127.0.0.1:{free_port()}")
    assert shop.comparing(away).sample(shop.release("validate"), 50, 1).verdict == "unknown"
    assert shop.comparing(None).sample(shop.release("validate"), 50, 1).verdict == "unknown"


def test_without_kafka_the_verdict_is_unknown(shop: Shop, stable: dict[str, Stage]) -> None:
    client = RevisionClient(f"http://127.0.0.1:{stable['validate'].port}")
    records = TopicRecords({"bootstrap.servers": f"127.0.0.1:{free_port()}"})
    report = Shadow(shop.reader, records, client, seconds=1).sample(shop.release("validate"), 50, 1)
    assert (report.verdict, report.compared) == ("unknown", 0)


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_what_is_judged_has_no_effect(shop: Shop, stable: dict[str, Stage], mode: str) -> None:
    log = Log({"bootstrap.servers": shop.bootstrap})
    before = [log.offset_ranges(topic) for topic in topics.ALL]
    inbox = placed(f"{shop.suffix}-1")
    headers, body = binary_headers(inbox), inbox.data
    if mode == "structured":
        headers = {"content-type": STRUCTURED}
        body = json.dumps(readable(inbox)).encode()
    judged = stable["validate"].http.post("/judge", content=body, headers=headers).json()
    assert (judged["outcome"], judged["event"]["subject"]) == ("accepted", inbox.subject)
    tracked = stable["track"].http.post("/judge", json={"event": judged["event"]}).json()
    assert (tracked["outcome"], tracked["order"]["total"]) == ("applied", 2900)
    assert [log.offset_ranges(topic) for topic in topics.ALL] == before
    with psycopg.connect(shop.stable_database) as connection:
        row = connection.execute(
            "SELECT count(*) FROM ledger WHERE order_id = %s", [inbox.subject]
        ).fetchone()
    assert row == (0,)


@pytest.mark.parametrize(
    ("body", "field"),
    [("{", ""), ("[]", ""), ('{"event": {}, "order": {"status": "none"}}', "order.status"), ("{}", "event")],
)
def test_a_question_that_track_cannot_read_is_a_clear_error(
    stable: dict[str, Stage], body: str, field: str
) -> None:
    answer = stable["track"].http.post("/judge", content=body)
    assert answer.status_code == 400
    assert field in {error["field"] for error in answer.json()["errors"]}
    assert "none" not in answer.text


def test_an_event_that_validate_cannot_read_is_judged_as_parked(stable: dict[str, Stage]) -> None:
    judged = stable["validate"].http.post("/judge", content="{").json()
    assert (judged["outcome"], judged["reasons"][0]["field"]) == ("parked", "specversion")
    assert stable["validate"].http.put("/judge").status_code == 405
