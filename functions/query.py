"""What became of the orders: the read API and the operators' console. Depends on PostgreSQL; on Kafka for actions.

The Flask application is orderflow/query/app.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import functions_framework
from werkzeug.wrappers import Response

from orderflow import startup
from orderflow.actions.repair import RevisionRepairs
from orderflow.actions.service import OperatorActions
from orderflow.adapters.http.api_keys import ApiKeys
from orderflow.adapters.kafka.blocking_producer import BlockingPublisher
from orderflow.adapters.kafka.producer import KafkaPublisher, client_config
from orderflow.adapters.postgres.schema import check_schema
from orderflow.adapters.telemetry.noop import NoopTelemetry
from orderflow.domain.rules import Rules
from orderflow.query.app import create_app
from orderflow.query.clients.announced_changes import AnnouncedChanges
from orderflow.query.clients.inbox import InboxLog
from orderflow.query.clients.queue_proxies import QueueProxies
from orderflow.query.clients.topic_records import TopicRecords
from orderflow.query.server_sent_events import EventStreams
from orderflow.query.shadow.comparison import Shadow
from orderflow.query.store.overdue import Alerts
from orderflow.query.store.reader import Reader
from orderflow.settings import QuerySettings, read_toml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Flask, Request


def build() -> Flask:
    settings = startup.configure(QuerySettings, "query")
    rules = read_toml(Rules, settings.rules_file, "RULES_FILE") if settings.rules_file else Rules()
    reader = Reader(settings, Alerts(rules.stuck, rules.gaps))
    telemetry = startup.telemetry(settings, "query")
    publisher = BlockingPublisher(telemetry.publisher(KafkaPublisher(settings)))
    actions = OperatorActions(reader, publisher.publish)
    records = TopicRecords(client_config(settings))
    repairs = RevisionRepairs(reader, InboxLog(records), publisher.publish)
    rollouts = None
    if settings.rollouts:
        from orderflow.query.clients.rollouts import Rollouts

        rollouts = Rollouts.connect()
    streams = EventStreams(settings.live_streams)
    login = settings.login()
    # Where people log in, query needs no keys, and a local run does not let everybody in.
    only_people = login is not None and settings.api_keys_file is None
    api_keys = ApiKeys(()) if only_people else ApiKeys.from_settings(settings, "query")
    check_schema(settings)
    shadow = _shadow(settings, reader, records)
    app = create_app(
        reader,
        api_keys,
        streams,
        actions,
        _contracts,
        settings.audit_url,
        rollouts,
        login,
        shadow,
        repairs,
        settings.shadow_url,
        _queue_proxies(settings),
        AnnouncedChanges(records),
    )
    if not isinstance(telemetry, NoopTelemetry):
        from orderflow.query.tracing import trace_requests

        trace_requests(app, telemetry)
    return app


def _shadow(settings: QuerySettings, reader: Reader, records: TopicRecords) -> Shadow:
    revisions = None
    if settings.shadow_url is not None:
        # With aiohttp, which takes time to import.
        from orderflow.query.clients.revision import RevisionClient

        revisions = RevisionClient(settings.shadow_url, settings.shadow_token_file)
    return Shadow(reader, records, revisions)


def _queue_proxies(settings: QuerySettings) -> QueueProxies | None:
    url = settings.prometheus_url
    return None if url is None else QueueProxies(url, client_config(settings))


def _contracts() -> Mapping[str, dict[str, Any]]:
    """Imported when a client first asks for a contract: the import takes a second, which no start should wait for."""
    from orderflow.contracts.documents import documents

    return documents()


app = startup.or_exit(build)


@functions_framework.http
def query(request: Request) -> Response:
    return Response.from_app(app, request.environ)
