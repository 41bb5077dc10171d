"""An answer held against its operation's OpenAPI description."""

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator


def operations(described: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By operationId."""
    return {each["operationId"]: each for path in described["paths"].values() for each in path.values()}


def must_be_as_described(
    described: dict[str, Any], operation: str, status: int, headers: Mapping[str, str], body: Any
) -> None:
    """The description is a strict one, so that a member which it does not have is a fault."""
    responses = operations(described)[operation]["responses"]
    assert str(status) in responses, body
    response = responses[str(status)]
    media = headers["content-type"]
    assert media in response["content"]
    for name in response.get("headers", {}):
        assert name in headers
    schema = response["content"][media]["schema"] | {"components": described["components"]}
    faults = Draft202012Validator(schema).iter_errors(body)
    assert [f"{fault.json_path}: {fault.message}" for fault in faults] == []
