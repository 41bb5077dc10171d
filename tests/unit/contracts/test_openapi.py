"""The descriptions of intake and query are valid and cover every address."""

from __future__ import annotations

import re
from typing import Any

import pytest
from openapi_spec_validator import validate
from pydantic import SecretStr

from orderflow.actions.repair import RevisionRepairs
from orderflow.actions.service import OperatorActions
from orderflow.adapters.http.api_keys import ApiKeys
from orderflow.adapters.kafka.producer import client_config
from orderflow.contracts.asyncapi import describe as describe_topics
from orderflow.contracts.documents import documents
from orderflow.contracts.openapi import describe
from orderflow.domain.deadlines import GapLimits, StuckLimits
from orderflow.domain.rules import Rules
from orderflow.intake.handler import Intake
from orderflow.query.app import create_app
from orderflow.query.clients.inbox import InboxLog
from orderflow.query.clients.topic_records import TopicRecords
from orderflow.query.server_sent_events import EventStreams
from orderflow.query.store.overdue import Alerts
from orderflow.query.store.reader import Reader
from orderflow.settings import QuerySettings

FOR_PEOPLE = re.compile(r"/(|live|assets/.*|bootstrap/.*|orders.*|parked.*|actions/.*|rollouts.*)")
"""The pages, their streams and forms, and their assets."""


class NothingPublished:
    async def publish(self, topic: str, events: Any) -> None:
        raise AssertionError


def described(stage: str) -> set[tuple[str, str]]:
    return {
        (method.upper(), path) for path, methods in describe(stage)["paths"].items() for method in methods
    }


@pytest.mark.parametrize("stage", ["intake", "query"])
def test_the_description_is_valid_openapi(stage: str) -> None:
    validate(describe(stage))


def test_every_address_of_query_for_programs_is_described_and_no_other() -> None:
    settings = QuerySettings(
        database_url=SecretStr("postgresql://nobody@127.0.0.1:1/none"), kafka_bootstrap="127.0.0.1:1"
    )
    reader = Reader(settings, Alerts(StuckLimits(), GapLimits()))
    actions = OperatorActions(reader, lambda _topic, _events: None)
    repairs = RevisionRepairs(
        reader, InboxLog(TopicRecords(client_config(settings))), lambda _topic, _events: None
    )
    app = create_app(reader, ApiKeys(None), EventStreams(0), actions, documents, repairs=repairs)
    routes = set()
    for rule in app.url_map.iter_rules():
        if FOR_PEOPLE.fullmatch(rule.rule):
            continue
        verbs = re.search(r"<any\((.*)\):verb>", rule.rule)
        for verb in verbs[1].split(", ") if verbs else [""]:
            path = re.sub(r"<any\(.*\):verb>", verb, rule.rule)
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path).replace("{name}", "{path}")
            routes |= {(method, path) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    with_a_cluster = {("GET", "/api/rollouts"), ("GET", "/api/rollouts/{name}")}
    assert routes == described("query") - with_a_cluster


def test_every_address_of_intake_is_described_and_no_other() -> None:
    intake = Intake(NothingPublished(), Rules(), ApiKeys(None), "https://shop.example")
    assert {("POST", path) for path in intake._routes} == described("intake")


@pytest.mark.parametrize("document", [describe("intake"), describe("query"), describe_topics()])
def test_every_reference_has_its_schema_and_every_schema_is_used(document: dict[str, Any]) -> None:
    used: set[str] = set()

    def follow(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(ref := value.get("$ref"), str):
                place: Any = document
                for part in ref.removeprefix("#/").split("/"):
                    place = place[part]
                used.add(ref)
            for each in value.values():
                follow(each)
        elif isinstance(value, list):
            for each in value:
                follow(each)

    follow(document)
    assert {f"#/components/schemas/{name}" for name in document["components"]["schemas"]} <= used


def test_an_error_is_described_for_every_operation() -> None:
    for stage in ("intake", "query"):
        for path in describe(stage)["paths"].values():
            for operation in path.values():
                assert {"401", "500"} <= operation["responses"].keys()
