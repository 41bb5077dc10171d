"""Topics and database -> report: finds missing events, and repairs them. Depends on PostgreSQL and Kafka.

The handler is orderflow/audit/handler.py, one run is orderflow/audit/run.py. `python -m functions.audit` makes one run
without HTTP.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import functions_framework.aio as functions_framework

from orderflow import startup
from orderflow.adapters.kafka.gap_reader import GapReader
from orderflow.adapters.kafka.log import Log
from orderflow.adapters.kafka.producer import KafkaPublisher, client_config
from orderflow.adapters.postgres.handled_store import HandledStore
from orderflow.adapters.postgres.pool import Database
from orderflow.adapters.postgres.schema import check_schema
from orderflow.adapters.telemetry.noop import NoopTelemetry
from orderflow.audit import command
from orderflow.audit.handler import AuditEndpoint
from orderflow.audit.run import Audit, AuditOptions
from orderflow.audit.store import AuditStore
from orderflow.domain.rules import Waiting
from orderflow.notify import due
from orderflow.notify import settings as notify_settings
from orderflow.settings import AuditSettings, load_with_session
from orderflow.shelve.parked_store import ParkedEventStore
from orderflow.track.handler import Tracker
from orderflow.track.store import OrderStore

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from orderflow.audit.report import Report
    from orderflow.audit.run import AuditRun


def build() -> AuditRun:
    settings = startup.configure(AuditSettings, "audit", load_with_session)
    notifications = notify_settings.load(settings.notifications_file)
    options = AuditOptions(
        grace=timedelta(seconds=settings.audit_grace_seconds),
        settle_seconds=settings.audit_settle_seconds,
        max_duration=timedelta(seconds=settings.audit_seconds),
        republish_per_second=settings.audit_republish_per_second,
        revision=settings.k_revision,
    )
    check_schema(settings)
    telemetry = startup.telemetry(settings, "audit")
    publisher = telemetry.publisher(KafkaPublisher(settings))

    async def run() -> Report | None:
        database = Database(settings)
        orders = OrderStore(database, revision=settings.k_revision, waiting=Waiting())
        try:
            async with AuditStore.open(settings) as store, GapReader(client_config(settings)) as reader:
                if store is None:
                    return None
                audit = Audit(
                    log=Log(client_config(settings)),
                    reader=reader,
                    store=store,
                    places=HandledStore(database),
                    publisher=publisher,
                    parked_events=ParkedEventStore(database),
                    sweep=Tracker(
                        orders, publisher, startup.handled_places(database), settings.k_revision
                    ).sweep,
                    has_due_notification=partial(due.is_due, settings=notifications),
                    options=options,
                )
                return await audit.run()
        finally:
            await database.close()

    if isinstance(telemetry, NoopTelemetry):
        return run
    from orderflow.audit.tracing import traced

    return traced(run, telemetry)


if __name__ == "__main__":
    sys.exit(command.main(build))

endpoint = AuditEndpoint(startup.or_exit(build))


@functions_framework.http
async def audit(request: Request) -> Response:
    return await endpoint.handle(request)
