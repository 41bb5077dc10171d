"""Every stage alone behind HTTP: what it gets in earnest, many requests at once, each answered when it is safe."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aiosmtpd.controller import Controller

from bench import count
from bench.contenders import Stage
from bench.load import delivered, in_lanes, request, send
from bench.runs import Run
from orderflow.adapters.http import api_keys
from orderflow.errors import Reason
from orderflow.messaging import parked_event, topics
from orderflow.messaging.cloudevent import derived_id
from orderflow.track import decision
from orderflow_sandbox.address import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aiosmtpd.smtp import SMTP, Session
    from aiosmtpd.smtp import Envelope as SmtpEnvelope

    from bench.lab import Ends, Lab
    from bench.workload import Workload
    from orderflow.messaging.cloudevent import CloudEvent

    Requests = Callable[[Workload], tuple[list[CloudEvent], list[bytes]]]
    Count = Callable[[Workload, dict[str, Ends]], list[str]]

CLIENT: Final = "bench"
_MAILED: Final = ("accepted", "paid", "shipped", "delivered")


def track(lab: Lab, warm: Workload, work: Workload, lanes: Sequence[int]) -> list[Run]:
    """The same events as the contenders get, with so many partitions in flight."""
    with Stage(lab, "track") as stage:
        return [
            _run(
                lab,
                stage,
                f"track, {many} in flight",
                (warm, work),
                _events,
                lambda load, start: count.tracked(lab, load, start[topics.STATUS]),
                many,
            )
            for many in lanes
        ]


def validate(lab: Lab, warm: Workload, work: Workload, lanes: int) -> Run:
    def counted(load: Workload, start: dict[str, Ends]) -> list[str]:
        expected = {derived_id("validate", event.source, event.id) for event in load.inbox}
        return _published(lab, topics.EVENTS, start, expected)

    with Stage(lab, "validate") as stage:
        return _run(lab, stage, "validate", (warm, work), _inbox, counted, lanes)


def intake(lab: Lab, warm: Workload, work: Workload, lanes: int) -> list[Run]:
    """Plain orders, then CloudEvents, behind an API key; 202 means that all in-sync replicas have it."""
    key, entry = api_keys.new_key(CLIENT, ["intake"])
    file = lab.folder / "api-keys.toml"
    file.write_text(api_keys.toml(entry))
    known = {"authorization": f"Bearer {key}", "content-type": "application/json"}

    def orders(load: Workload) -> tuple[list[CloudEvent], list[bytes]]:
        placed = [event for event in load.inbox if event.type.endswith(".placed.v1")]
        return placed, [
            request("/orders", known | {"idempotency-key": event.id}, event.data) for event in placed
        ]

    def events(load: Workload) -> tuple[list[CloudEvent], list[bytes]]:
        return load.inbox, [
            request(
                "/", known | {f"ce-{name}": value for name, value in event.attributes().items()}, event.data
            )
            for event in load.inbox
        ]

    def orders_counted(load: Workload, start: dict[str, Ends]) -> list[str]:
        source = f"/storefront/{CLIENT}"
        expected = {derived_id("intake", source, event.id) for event in orders(load)[0]}
        return _published(lab, topics.INBOX, start, expected)

    def events_counted(load: Workload, start: dict[str, Ends]) -> list[str]:
        return _published(lab, topics.INBOX, start, {event.id for event in load.inbox})

    with Stage(lab, "intake", API_KEYS_FILE=str(file), PUBLIC_URL="https://orders.shop.example") as stage:
        return [
            _run(lab, stage, "intake, POST /orders", (warm, work), orders, orders_counted, lanes),
            _run(lab, stage, "intake, CloudEvents", (warm, work), events, events_counted, lanes),
        ]


def park(lab: Lab, warm: Workload, work: Workload, lanes: int) -> Run:
    def dead_letters(load: Workload) -> tuple[list[CloudEvent], list[bytes]]:
        dead = [
            event.with_extensions(
                knativeerrordest="http://track.default.svc.cluster.local", knativeerrorcode="500"
            )
            for event in load.events
        ]
        return dead, list(map(delivered, dead))

    def counted(load: Workload, start: dict[str, Ends]) -> list[str]:
        expected = {
            parked_event.dead_letter(parked_event.ReceivedEvent.of_cloudevent(event), "").id
            for event in dead_letters(load)[0]
        }
        return _published(lab, topics.PARKED, start, expected)

    with Stage(lab, "park") as stage:
        return _run(lab, stage, "park", (warm, work), dead_letters, counted, lanes)


def shelve(lab: Lab, warm: Workload, work: Workload, lanes: int) -> Run:
    why = [Reason("forbidden_transition", "type", "shipped is forbidden: the order is cancelled")]

    def parked(load: Workload) -> tuple[list[CloudEvent], list[bytes]]:
        events = [
            parked_event.parked(
                parked_event.ReceivedEvent.of_cloudevent(event),
                stage="track",
                revision="track-00001",
                reasons=why,
            )
            for event in load.events
        ]
        return load.events, list(map(delivered, events))

    def counted(load: Workload, _start: dict[str, Ends]) -> list[str]:
        rows, twice = lab.one("SELECT count(*), count(*) FILTER (WHERE times > 1) FROM parked")
        found = (rows, twice)
        return [] if found == (load.size, 0) else [f"parked rows: {rows}, counted twice: {twice}"]

    with Stage(lab, "shelve") as stage:
        return _run(lab, stage, "shelve", (warm, work), parked, counted, lanes)


def notify(lab: Lab, warm: Workload, work: Workload, lanes: int) -> Run:
    """Each announcement becomes an e-mail, taken by an SMTP server that counts its Message-IDs."""
    mails: list[str] = []

    def announced(load: Workload) -> tuple[list[CloudEvent], list[bytes]]:
        events = _announcements(load)
        return events, list(map(delivered, events))

    def counted(load: Workload, _start: dict[str, Ends]) -> list[str]:
        sent = lab.one("SELECT count(*) FROM notifications WHERE state = 'sent' AND attempts = 1")[0]
        found = (sent, len(mails), len(set(mails)))
        wanted = load.size
        return (
            []
            if found == (wanted, wanted, wanted)
            else [f"sent, mails, different mails: {found} of {wanted}"]
        )

    with _mailbox(mails) as port:
        file = lab.folder / "notifications.toml"
        kinds = json.dumps(_MAILED)
        file.write_text(
            '[shop]\nname = "Bench"\nurl = "https://shop.example"\n'
            '[email]\nfrom = "Bench <orders@shop.example>"\n'
            f'smtp_url = "smtp://127.0.0.1:{port}"\nkinds = {kinds}\n'
        )
        with Stage(lab, "notify", NOTIFICATIONS_FILE=str(file)) as stage:
            return _run(lab, stage, "notify, e-mail", (warm, work), announced, counted, lanes, mails.clear)


def _announcements(load: Workload) -> list[CloudEvent]:
    """What track says of these events."""
    known: dict[str, decision.Snapshot] = {}
    announced: list[CloudEvent] = []
    for event in load.events:
        plan = decision.plan(
            decision.read(event), known.get(event.subject, decision.Snapshot()), "track-00001"
        )
        known[event.subject] = decision.Snapshot(plan.lock + 1, plan.state, plan.document)
        announced += plan.announced
    return announced


@contextmanager
def _mailbox(mails: list[str]) -> Iterator[int]:
    class Box:
        async def handle_DATA(self, _server: SMTP, _session: Session, envelope: SmtpEnvelope) -> str:  # noqa: N802 - its name
            content = envelope.content if isinstance(envelope.content, bytes) else b""
            head = content.partition(b"\r\n\r\n")[0].decode("ascii", "replace").replace("\r\n ", " ")
            ids = [line[11:].strip() for line in head.split("\r\n") if line.lower().startswith("message-id:")]
            mails.append(ids[0])
            return "250 OK"

    port = free_port()
    controller = Controller(Box(), hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


def _events(load: Workload) -> tuple[list[CloudEvent], list[bytes]]:
    return load.events, list(map(delivered, load.events))


def _inbox(load: Workload) -> tuple[list[CloudEvent], list[bytes]]:
    return load.inbox, list(map(delivered, load.inbox))


def _published(lab: Lab, topic: str, start: dict[str, Ends], expected: set[str]) -> list[str]:
    return count.published(lab.between(topic, start[topic], lab.ends(topic)), expected, "events")


def _run(
    lab: Lab,
    stage: Stage,
    what: str,
    loads: tuple[Workload, Workload],
    requests: Requests,
    counted: Count,
    lanes: int,
    forget: Callable[[], None] = lambda: None,
) -> Run:
    """The first load warms up, the second is measured and counted."""
    warm, work = loads
    send(stage.port, in_lanes(*requests(warm), lanes))
    lab.empty_tables()
    forget()
    start = {topic: lab.ends(topic) for topic in topics.ALL}
    dealt = in_lanes(*requests(work), lanes)
    cpu, servers = stage.cpu(), lab.cpu()
    answers = send(stage.port, dealt)
    used, taken = stage.cpu() - cpu, lab.cpu().since(servers)
    wrong = {status: many for status, many in answers.statuses.items() if status not in {202, 204}}
    return Run(
        what,
        len(answers.latencies),
        answers.seconds,
        {stage.name: used},
        {"kafka": taken.kafka, "postgres": taken.postgres},
        per=len(answers.latencies) // work.orders,
        p50=answers.percentile_ms(0.5),
        p99=answers.percentile_ms(0.99),
        faults=([f"answers: {wrong}"] if wrong else []) + counted(work, start),
    )
