"""Each stage alone behind HTTP, with many requests in flight. A stage answers each when its effect is durable."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aiosmtpd.controller import Controller

from bench import count
from bench.contenders import Stage
from bench.load import by_connection, delivered, request, send
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
    from aiosmtpd.smtp import Envelope as MailEnvelope

    from bench.lab import Lab, Offsets
    from bench.workload import Workload
    from orderflow.messaging.cloudevent import CloudEvent

    Requests = Callable[[Workload], tuple[list[CloudEvent], list[bytes]]]
    """The events of a workload and the request for each."""
    Check = Callable[[Workload, dict[str, Offsets]], list[str]]
    """The faults of a run, from its workload and the topics' end offsets before it."""

CLIENT: Final = "bench"
_MAILED: Final = ("accepted", "paid", "shipped", "delivered")


def track(lab: Lab, warm: Workload, work: Workload, connections: Sequence[int]) -> list[Run]:
    """The same events as for the contenders; one run for each number of requests in flight."""
    with Stage(lab, "track") as stage:
        return [
            _run(
                lab,
                stage,
                f"track, {number} in flight",
                (warm, work),
                _events,
                lambda load, start: count.tracked(lab, load, start[topics.STATUS]),
                number,
            )
            for number in connections
        ]


def validate(lab: Lab, warm: Workload, work: Workload, connections: int) -> Run:
    def check(load: Workload, start: dict[str, Offsets]) -> list[str]:
        expected = {derived_id("validate", event.source, event.id) for event in load.inbox}
        return _check_published(lab, topics.EVENTS, start, expected)

    with Stage(lab, "validate") as stage:
        return _run(lab, stage, "validate", (warm, work), _inbox, check, connections)


def intake(lab: Lab, warm: Workload, work: Workload, connections: int) -> list[Run]:
    """Plain orders, then CloudEvents, with an API key. 202 means that all in-sync replicas have the event."""
    key, entry = api_keys.new_key(CLIENT, ["intake"])
    file = lab.folder / "api-keys.toml"
    file.write_text(api_keys.toml(entry))
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}

    def orders(load: Workload) -> tuple[list[CloudEvent], list[bytes]]:
        placed = [event for event in load.inbox if event.type.endswith(".placed.v1")]
        return placed, [
            request("/orders", headers | {"idempotency-key": event.id}, event.data) for event in placed
        ]

    def events(load: Workload) -> tuple[list[CloudEvent], list[bytes]]:
        return load.inbox, [
            request(
                "/", headers | {f"ce-{name}": value for name, value in event.attributes().items()}, event.data
            )
            for event in load.inbox
        ]

    def check_orders(load: Workload, start: dict[str, Offsets]) -> list[str]:
        source = f"/storefront/{CLIENT}"
        expected = {derived_id("intake", source, event.id) for event in orders(load)[0]}
        return _check_published(lab, topics.INBOX, start, expected)

    def check_events(load: Workload, start: dict[str, Offsets]) -> list[str]:
        return _check_published(lab, topics.INBOX, start, {event.id for event in load.inbox})

    with Stage(lab, "intake", API_KEYS_FILE=str(file), PUBLIC_URL="https://orders.shop.example") as stage:
        return [
            _run(lab, stage, "intake, POST /orders", (warm, work), orders, check_orders, connections),
            _run(lab, stage, "intake, CloudEvents", (warm, work), events, check_events, connections),
        ]


def park(lab: Lab, warm: Workload, work: Workload, connections: int) -> Run:
    def dead_letters(load: Workload) -> tuple[list[CloudEvent], list[bytes]]:
        dead = [
            event.with_extensions(
                knativeerrordest="http://track.default.svc.cluster.local", knativeerrorcode="500"
            )
            for event in load.events
        ]
        return dead, list(map(delivered, dead))

    def check(load: Workload, start: dict[str, Offsets]) -> list[str]:
        expected = {
            parked_event.dead_letter(parked_event.ReceivedEvent.of_cloudevent(event), "").id
            for event in dead_letters(load)[0]
        }
        return _check_published(lab, topics.PARKED, start, expected)

    with Stage(lab, "park") as stage:
        return _run(lab, stage, "park", (warm, work), dead_letters, check, connections)


def shelve(lab: Lab, warm: Workload, work: Workload, connections: int) -> Run:
    reasons = [Reason("forbidden_transition", "type", "shipped is forbidden: the order is cancelled")]

    def parked(load: Workload) -> tuple[list[CloudEvent], list[bytes]]:
        events = [
            parked_event.parked(
                parked_event.ReceivedEvent.of_cloudevent(event),
                stage="track",
                revision="track-00001",
                reasons=reasons,
            )
            for event in load.events
        ]
        return load.events, list(map(delivered, events))

    def check(load: Workload, _start: dict[str, Offsets]) -> list[str]:
        rows, twice = lab.query_row("SELECT count(*), count(*) FILTER (WHERE times > 1) FROM parked")
        return [] if (rows, twice) == (load.size, 0) else [f"parked rows: {rows}, counted twice: {twice}"]

    with Stage(lab, "shelve") as stage:
        return _run(lab, stage, "shelve", (warm, work), parked, check, connections)


def notify(lab: Lab, warm: Workload, work: Workload, connections: int) -> Run:
    """Each announcement becomes an e-mail. An SMTP server receives the e-mails and counts their Message-IDs."""
    message_ids: list[str] = []

    def announced(load: Workload) -> tuple[list[CloudEvent], list[bytes]]:
        events = _announcements(load)
        return events, list(map(delivered, events))

    def check(load: Workload, _start: dict[str, Offsets]) -> list[str]:
        query = "SELECT count(*) FROM notifications WHERE state = 'sent' AND attempts = 1"
        counts = (lab.query_row(query)[0], len(message_ids), len(set(message_ids)))
        expected = (load.size, load.size, load.size)
        return [] if counts == expected else [f"sent, mails, different mails: {counts} of {load.size}"]

    with _mailbox(message_ids) as port:
        file = lab.folder / "notifications.toml"
        kinds = json.dumps(_MAILED)
        file.write_text(
            '[shop]\nname = "Bench"\nurl = "https://shop.example"\n'
            '[email]\nfrom = "Bench <orders@shop.example>"\n'
            f'smtp_url = "smtp://127.0.0.1:{port}"\nkinds = {kinds}\n'
        )
        with Stage(lab, "notify", NOTIFICATIONS_FILE=str(file)) as stage:
            return _run(
                lab,
                stage,
                "notify, e-mail",
                (warm, work),
                announced,
                check,
                connections,
                message_ids.clear,
            )


def _announcements(load: Workload) -> list[CloudEvent]:
    """Track's announcements of these events."""
    snapshots: dict[str, decision.Snapshot] = {}
    announcements: list[CloudEvent] = []
    for event in load.events:
        plan = decision.plan(
            decision.read(event), snapshots.get(event.subject, decision.Snapshot()), "track-00001"
        )
        snapshots[event.subject] = decision.Snapshot(plan.lock + 1, plan.state, plan.document)
        announcements += plan.announced
    return announcements


@contextmanager
def _mailbox(message_ids: list[str]) -> Iterator[int]:
    """Runs an SMTP server that adds the Message-ID of each e-mail to the list. Yields its port."""

    class Handler:
        async def handle_DATA(self, _server: SMTP, _session: Session, mail: MailEnvelope) -> str:  # noqa: N802 - aiosmtpd's name
            content = mail.content if isinstance(mail.content, bytes) else b""
            head = content.partition(b"\r\n\r\n")[0].decode("ascii", "replace").replace("\r\n ", " ")
            ids = [line[11:].strip() for line in head.split("\r\n") if line.lower().startswith("message-id:")]
            message_ids.append(ids[0])
            return "250 OK"

    port = free_port()
    controller = Controller(Handler(), hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


def _events(load: Workload) -> tuple[list[CloudEvent], list[bytes]]:
    return load.events, list(map(delivered, load.events))


def _inbox(load: Workload) -> tuple[list[CloudEvent], list[bytes]]:
    return load.inbox, list(map(delivered, load.inbox))


def _check_published(lab: Lab, topic: str, start: dict[str, Offsets], expected_ids: set[str]) -> list[str]:
    return count.published(lab.read(topic, start[topic], lab.end_offsets(topic)), expected_ids, "events")


def _run(
    lab: Lab,
    stage: Stage,
    name: str,
    loads: tuple[Workload, Workload],
    requests: Requests,
    check: Check,
    connections: int,
    reset: Callable[[], None] = lambda: None,
) -> Run:
    """The first load warms the stage up; reset() follows it. The second load is measured and checked."""
    warm, work = loads
    send(stage.port, by_connection(*requests(warm), connections))
    lab.empty_tables()
    reset()
    start = {topic: lab.end_offsets(topic) for topic in topics.ALL}
    queues = by_connection(*requests(work), connections)
    cpu_before, servers_before = stage.cpu(), lab.cpu()
    responses = send(stage.port, queues)
    cpu, servers = stage.cpu() - cpu_before, lab.cpu().since(servers_before)
    errors = {status: number for status, number in responses.statuses.items() if status not in {202, 204}}
    return Run(
        name,
        len(responses.latencies),
        responses.seconds,
        {stage.name: cpu},
        {"kafka": servers.kafka, "postgres": servers.postgres},
        events_per_order=len(responses.latencies) // work.orders,
        p50=responses.percentile_ms(0.5),
        p99=responses.percentile_ms(0.99),
        faults=([f"responses: {errors}"] if errors else []) + check(work, start),
    )
