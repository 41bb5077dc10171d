"""Notify's claims, whatever recipients answer and whichever process dies: one copy of each message, and at most one
more copy for each lease that ended while notify did not know whether the recipient had accepted the message."""

import asyncio
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, rule, run_state_machine_as_test
from support.faults import DiedError
from support.observed import Bench
from support.sending import ANSWERS, DEATHS, END_LEASES, QUICK, Worker, World, key_of
from support.statuses import announced

from orderflow.adapters.postgres.schema import migrate
from orderflow.errors import PoisonError, TransientError
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.notify import due
from orderflow.notify.settings import NotificationSettings

PROFILES = {"quick": (120, 20), "deep": (5000, 40)}
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")
LEASE_SECONDS = 600.0
MISCOUNTED = """
SELECT event_id FROM notifications
WHERE miscounted_by IS NOT NULL OR handovers > attempts OR state = 'sent' AND coalesce(handovers, 0) < 1
"""
"""Of honest workers there is none: a claim allows one handover, and what is sent was handed over."""

answers = st.lists(st.sampled_from(("sent", "sent", *ANSWERS)), min_size=3, max_size=3)
quick_answers = st.lists(st.sampled_from(QUICK), min_size=3, max_size=3)


class Sending(RuleBasedStateMachine):
    events = Bundle("events")

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        bench.examples += 1
        hooks = [f"{name}-{bench.examples}" for name in ("erp", "crm")]
        self.places = ["email", *(f"webhook.{hook}" for hook in hooks)]
        self.settings = NotificationSettings.model_validate(
            {
                "shop": {"name": "Shop", "url": "https://shop.example"},
                "email": {"from": "orders@shop.example", "smtp_url": "smtp://127.0.0.1"},
                "webhooks": [
                    {"name": hook, "url": "https://hook.example", "secret_file": "secret"} for hook in hooks
                ],
            }
        )
        self.world = World()
        self.sent: list[CloudEvent] = []
        self.workers = [self._worker(number) for number in range(3)]

    def _worker(self, number: int) -> Worker:
        return Worker(self.settings, self.bench.databases[number], self.world, LEASE_SECONDS)

    @rule(target=events)
    def happen(self) -> CloudEvent:
        event = announced("accepted")
        self.sent.append(event)
        return event

    @rule(
        first=st.lists(events, min_size=1, max_size=2),
        second=st.lists(events, max_size=2),
        worker_answers=st.tuples(answers, answers, quick_answers),
        deaths=st.tuples(st.sampled_from(DEATHS), st.sampled_from(DEATHS)),
        replay=st.booleans(),
    )
    def deliver(
        self,
        first: list[CloudEvent],
        second: list[CloudEvent],
        worker_answers: tuple[list[str], ...],
        deaths: tuple[str, str],
        replay: bool,
    ) -> None:
        for number, (by_place, death_point) in enumerate(zip(worker_answers, (*deaths, ""), strict=True)):
            if self.workers[number].dead:
                self.workers[number] = self._worker(number)
            self.workers[number].answers = dict(zip(self.places, by_place, strict=True))
            self.workers[number].death_point = death_point
            self.workers[number].successor = self.workers[2] if number != 2 else None
        deliveries = [(0, event) for event in first] + [(1, event) for event in second]
        acknowledged = self.bench.runner.run(self._handle_at_once(deliveries, replay=replay))
        self._check_acknowledged(acknowledged)
        copies, ended_leases = self.world.copies, self.world.ended_leases
        excess = {key: count for key, count in copies.items() if count > 1 + ended_leases[key]}
        assert not excess, "more copies than leases allow for"

    async def _handle_at_once(
        self, deliveries: list[tuple[int, CloudEvent]], *, replay: bool
    ) -> list[CloudEvent]:
        """deliveries are pairs of a worker's number and an event. Returns the acknowledged events."""
        extensions = {"replay": "r"} if replay else {}
        handling = [
            self.workers[number].notifier.handle(event.with_extensions(**extensions))
            for number, event in deliveries
        ]
        results = await asyncio.gather(*handling, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(
                result, DiedError | TransientError | PoisonError
            ):
                raise result
        return [
            event for (_, event), result in zip(deliveries, results, strict=True) if isinstance(result, str)
        ]

    def _check_acknowledged(self, acknowledged: list[CloudEvent]) -> None:
        """Each message is recorded as sent and arrived, unless its recipient answered that the endpoint is gone."""
        gone_endpoints = self.bench.column("SELECT endpoint FROM webhook_endpoints_gone")
        for event in acknowledged:
            for notification in due.notifications(event, self.settings):
                key = key_of(notification)
                is_sent = self.world.recorded.get(key) == "sent" and self.world.copies[key]
                assert is_sent or key[2] in gone_endpoints, "acknowledged, and not sent"

    @rule()
    def time_passes(self) -> None:
        """Every lease ends."""
        self.bench.execute(END_LEASES, [])
        for key in list(self.world.sending):
            self.world.end_lease(key)

    def teardown(self) -> None:
        self.time_passes()
        for event in self.sent:
            self.deliver([event], [], (["sent"] * 3,) * 3, ("", ""), replay=True)
        self._check_acknowledged(self.sent)
        assert not self.bench.column(MISCOUNTED), "handovers that the claims do not allow"


@pytest.fixture
def bench(fresh_database: str) -> Iterator[Bench]:
    migrate(fresh_database)
    bench = Bench(fresh_database, workers=3)
    yield bench
    bench.close()


@pytest.mark.timeout(4 * 3600 if PROFILE == "deep" else 900)
def test_whatever_recipients_answer_and_whoever_dies_nobody_gets_more_copies_than_leases_ended(
    bench: Bench,
) -> None:
    examples, steps = PROFILES[PROFILE]
    run_state_machine_as_test(
        lambda: Sending(bench),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=PROFILE == "quick",
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
