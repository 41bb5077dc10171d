"""Who sends an event: the OIDC token that KafkaSource sends with each event, verified before a stage reads the event.

Every refusal is a 503. After a 401 or 403, KafkaSource sends the event to the dead-letter sink without a retry. The
dead-letter sink verifies tokens as well, and what it refuses is dropped. So a mistake in the configuration would drop
orders. After a 503 the event comes again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from orderflow.adapters.http import problems
from orderflow.adapters.http.endpoint import OUTCOME
from orderflow.errors import TransientError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from orderflow.adapters.http.endpoint import Endpoint

log = logging.getLogger(__name__)


class SenderRefusedError(Exception):
    """The token does not prove that an allowed sender sends the event. The message is one of our own sentences."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Verifier(Protocol):
    async def verify(self, token: str, /) -> None:
        """Raises SenderRefusedError, or TransientError where the issuer's keys cannot be fetched."""


class Authenticated:
    """An endpoint that passes on only requests with a token that the verifier accepts."""

    def __init__(self, endpoint: Endpoint, verifier: Verifier) -> None:
        self._endpoint = endpoint
        self._verifier = verifier

    async def handle(self, request: Request) -> Response:
        try:
            await self._verifier.verify(_token(request))
        except SenderRefusedError as error:
            return _refusal(request, error.code, str(error))
        except TransientError as error:
            return _refusal(request, "sender_unverified", str(error))
        return await self._endpoint.handle(request)


def _token(request: Request) -> str:
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    token = rest.strip()
    if scheme.lower() != "bearer" or not token:
        raise SenderRefusedError("token_missing", "the request has no bearer token")
    return token


def _refusal(request: Request, code: str, text: str) -> Response:
    request.scope[OUTCOME] = "sender_refused"
    log.warning("sender refused", extra={"reason": code, "cause": text})
    return problems.problem(503, code, text, headers={"Retry-After": str(problems.RETRY_SECONDS)})
