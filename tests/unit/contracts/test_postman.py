"""The Postman collection is in step with the OpenAPI descriptions: a request for every operation and status."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from orderflow.contracts.openapi import describe

FOLDER = Path(__file__).parents[2] / "postman"
COLLECTION = json.loads((FOLDER / "orderflow.postman_collection.json").read_bytes())
NAME = re.compile(r"(\w+) (\d{3}): \S.*")

NOT_FROM_OUTSIDE = {429, 500, 503}
"""Nobody can bring these about by asking; test_intake.py and test_query.py stop Kafka and PostgreSQL for them. A 429
needs a key with a quota (test_intake.py)."""
NOT_IN_EVERY_STATE = {
    ("runAudit", 409),  # two at once; test_audit_asked_for.py
    ("repairRevision", 409),  # with a cluster only; test_rollouts.py
    ("readLastAudit", 404),  # before the first run only; test_contracts_over_http.py
}
ONLY_WITH_A_CLUSTER = {"listRollouts", "readRollout"}


class Request(NamedTuple):
    operation: str
    status: int
    method: str
    stage: str
    path: str


def requests() -> Iterator[Request]:
    for folder in COLLECTION["item"]:
        for item in folder["item"]:
            if folder["name"] == "Pages":
                continue
            named = NAME.fullmatch(item["name"])
            assert named, item["name"]
            request = item["request"]
            stage = re.fullmatch(r"\{\{(\w+)\}\}", request["url"]["host"][0])
            assert stage
            path = "/" + "/".join(request["url"]["path"])
            yield Request(named[1], int(named[2]), request["method"].lower(), stage[1], path)


def described() -> dict[str, tuple[str, str, str, dict[str, Any]]]:
    """By id: stage, method, path, the operation."""
    return {
        operation["operationId"]: (stage, method, path, operation)
        for stage in ("intake", "query")
        for path, methods in describe(stage)["paths"].items()
        for method, operation in methods.items()
    }


def test_every_operation_and_status_has_a_request_and_every_request_an_operation() -> None:
    expected = {
        (name, int(status))
        for name, (_, method, _, operation) in described().items()
        for status in operation["responses"]
        if name not in ONLY_WITH_A_CLUSTER
        and int(status) not in NOT_FROM_OUTSIDE
        # Every key of query may read. A person without a role may not (test_console_login.py).
        and (method, status) != ("get", "403")
    }
    assert {(each.operation, each.status) for each in requests()} == expected - NOT_IN_EVERY_STATE


def test_every_request_goes_where_its_operation_is() -> None:
    operations = described()
    for request in requests():
        stage, method, path, _ = operations[request.operation]
        parts = (
            ".+" if part == "{path}" else "[^/]+" if part.startswith("{") else re.escape(part)
            for part in path.split("/")
        )
        assert (request.stage, request.method) == (stage, method), request
        assert re.fullmatch("/".join(parts), request.path), request


def test_the_environments_name_what_the_collection_asks_for_and_hold_no_key() -> None:
    used = set(re.findall(r"\{\{(\w+)\}\}", json.dumps(COLLECTION)))
    own = {each["key"] for each in COLLECTION["variable"]} | {"large"}
    for file in FOLDER.glob("*.postman_environment.json"):
        values = {each["key"]: each for each in json.loads(file.read_bytes())["values"]}
        assert used - own == values.keys()
        assert all(each["value"] == "" for name, each in values.items() if name.endswith("Key"))
