"""Shared by the HTTP endpoints of all asyncio stages: ASGI scope keys, and one handling of every error."""

from __future__ import annotations

import logging
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

from orderflow import logs
from orderflow.adapters.http import problems
from orderflow.errors import ConflictError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.requests import Request
    from starlette.responses import Response

log = logging.getLogger(__name__)

EVENT: Final = "orderflow.event"
"""ASGI scope key: the CloudEvent that the endpoint read."""
OUTCOME: Final = "orderflow.outcome"
"""ASGI scope key: the outcome, one word."""
REASON: Final = "orderflow.reason"
"""ASGI scope key: why the event was parked (reason code)."""


class Endpoint(Protocol):
    async def handle(self, request: Request, /) -> Response: ...


E = TypeVar("E", bound=Endpoint)
Handle: TypeAlias = "Callable[[E, Request], Coroutine[Any, Any, Response]]"


def answers_every_error(title: str) -> Callable[[Handle[E]], Handle[E]]:
    """Decorates an endpoint's handle(): TransientError and ConflictError become a 503, any other error a 500 with
    this title.

    No error reaches Functions Framework, which would log the error's text, and with it data of the event.
    """

    def decorate(handle: Handle[E]) -> Handle[E]:
        @wraps(handle)
        async def handle_safely(endpoint: E, request: Request) -> Response:
            try:
                return await handle(endpoint, request)
            except (TransientError, ConflictError) as error:
                request.scope[OUTCOME] = "not_now"
                log.warning("not now", extra=_event_id(request) | {"cause": str(error)})
                return problems.unavailable(str(error))
            except Exception as error:  # noqa: BLE001 - no error may reach Functions Framework
                request.scope[OUTCOME] = "failed"
                extra = _event_id(request) | {
                    "error": type(error).__name__,
                    "where": logs.location(error),
                }
                log.error("unexpected", extra=extra)  # noqa: TRY400 - a stack trace may quote the data
                return problems.problem(500, "internal_error", title)

        return handle_safely

    return decorate


def posts_only(title: str) -> Response:
    return problems.problem(405, "method_not_allowed", title, headers={"Allow": "POST"})


def _event_id(request: Request) -> dict[str, str]:
    event = request.scope.get(EVENT)
    return {} if event is None else {"event_id": logs.identifier(event.id)}
