"""The OpenAPI 3.1 descriptions of intake and query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from orderflow.contracts import intake_api, query_api
from orderflow.contracts.operations import Description
from orderflow.version import version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.contracts.operations import Operation

_STAGES: Final[dict[str, tuple[str, Sequence[Operation], str]]] = {
    "intake": ("Takes orders and events from shops.", intake_api.OPERATIONS, "http://127.0.0.1:8080"),
    "query": ("Shows orders, and takes operators' actions.", query_api.OPERATIONS, "http://127.0.0.1:8081"),
}


def describe(stage: str, *, strict: bool = False) -> dict[str, Any]:
    """stage: intake or query. strict: a response may have only the members that are described; for tests."""
    text, operations, local = _STAGES[stage]
    info = {
        "title": f"Orderflow: {stage}",
        "version": version(),
        "description": f"{text} Every error is problem+json (RFC 9457). Ignore members that you do not know.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    }
    server = {
        "url": "{address}",
        "description": f"The address of {stage}; the sandbox prints its own.",
        "variables": {"address": {"default": local}},
    }
    return Description(info, server, operations, strict=strict, session=stage == "query").document()
