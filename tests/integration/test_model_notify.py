"""Notify's claims, whatever recipients answer and whoever dies: one copy of each message, and one more at most for
each lease that ended while nobody knew whether it had been taken."""

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

PROFILES = {"quick": (250, 20), "deep": (5000, 40)}
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")
LEASE_SECONDS = 600.0

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
        told = announced("accepted")
        self.sent.append(told)
        return told

    @rule(
        first=st.lists(events, min_size=1, max_size=2),
        second=st.lists(events, max_size=2),
        told=st.tuples(answers, answers, quick_answers),
        deaths=st.tuples(st.sampled_from(DEATHS), st.sampled_from(DEATHS)),
        replay=st.booleans(),
    )
    def deliver(
        self,
        first: list[CloudEvent],
        second: list[CloudEvent],
        told: tuple[list[str], ...],
        deaths: tuple[str, str],
        replay: bool,
    ) -> None:
        for number, (says, dies) in enumerate(zip(told, (*deaths, ""), strict=True)):
            if self.workers[number].dead:
                self.workers[number] = self._worker(number)
            self.workers[number].answers = dict(zip(self.places, says, strict=True))
            self.workers[number].dies = dies
            self.workers[number].heir = self.workers[2] if number != 2 else None
        lots = [(0, each) for each in first] + [(1, each) for each in second]
        done = self.bench.runner.run(self._at_once(lots, replay=replay))
        self._check_done(done)
        over = {key: count for key, count in self.world.taken.items() if count > 1 + self.world.ended[key]}
        assert not over, "more copies than leases allow for"

    async def _at_once(self, lots: list[tuple[int, CloudEvent]], *, replay: bool) -> list[CloudEvent]:
        """Those that were acknowledged."""
        more = {"replay": "r"} if replay else {}
        doing = [self.workers[number].notifier.handle(each.with_extensions(**more)) for number, each in lots]
        given = await asyncio.gather(*doing, return_exceptions=True)
        for answer in given:
            if isinstance(answer, BaseException) and not isinstance(
                answer, DiedError | TransientError | PoisonError
            ):
                raise answer
        return [event for (_, event), answer in zip(lots, given, strict=True) if isinstance(answer, str)]

    def _check_done(self, done: list[CloudEvent]) -> None:
        """Each message is known to be sent and was taken, unless its recipient wants nothing any more."""
        gone = self.bench.column("SELECT endpoint FROM webhook_endpoints_gone")
        for event in done:
            for notification in due.notifications(event, self.settings):
                key = key_of(notification)
                known = self.world.recorded.get(key) == "sent" and self.world.taken[key]
                assert known or key[2] in gone, "done, and not sent"

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
        self._check_done(self.sent)


@pytest.fixture
def bench(fresh_database: str) -> Iterator[Bench]:
    migrate(fresh_database)
    found = Bench(fresh_database, workers=3)
    yield found
    found.close()


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
