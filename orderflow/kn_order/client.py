"""Query's API as an operator's command uses it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote
from uuid import uuid4

import httpx

from orderflow.version import user_agent

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.kn_order.connection import Place

Json = dict[str, Any]

ATTEMPTS: Final = 4
PAUSE_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.25
_TIMEOUT: Final = httpx.Timeout(330, connect=10)
_OPERATOR: Final = "Orderflow-Operator"
_ENDED: Final = frozenset({"applied", "refused", "waiting", "parked"})


class OperatorError(Exception):
    """What was asked for was not done; the message says why, and what to do next. code is the exit code."""

    code = 1


class WrongUsageError(OperatorError):
    code = 2


class UnreachableError(OperatorError):
    code = 3


class NotAllowedError(OperatorError):
    code = 4


class Client:
    """Use as a context manager. What changes something carries one Idempotency-Key over all attempts."""

    def __init__(self, place: Place, wait: Callable[[float], None] = time.sleep) -> None:
        headers = {"Accept": "application/json", "User-Agent": user_agent("kn-order")}
        if place.key:
            headers["Authorization"] = f"Bearer {place.key}"
        elif place.operator:
            headers[_OPERATOR] = place.operator
        self._http = httpx.Client(base_url=place.server, headers=headers, timeout=_TIMEOUT)
        self._wait = wait

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **asked: str | int | None) -> Json:
        """Raises OperatorError, of the kind that says what to do."""
        given = {name: str(value) for name, value in asked.items() if value not in {None, ""}}
        return self._ask("GET", path, params=given or None)  # {} would take the address's own away

    def post(self, path: str, body: Json) -> Json:
        return self._ask("POST", path, json=body, headers={"Idempotency-Key": str(uuid4())})

    def _ask(self, method: str, path: str, **more: Any) -> Json:  # noqa: ANN401 - httpx's own
        for attempt in range(1, ATTEMPTS + 1):
            last = attempt == ATTEMPTS
            try:
                answer = self._http.request(method, path, **more)
            except httpx.TransportError as error:
                if last or isinstance(error, httpx.UnsupportedProtocol):
                    raise UnreachableError(
                        f"{self._http.base_url} cannot be reached; is query running, and the address right?"
                    ) from None
            else:
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or last or "audits" in path:
                    return _read(answer)
            self._wait(PAUSE_SECONDS)
        raise AssertionError

    def outcomes(self, receipt: Json, seconds: float) -> list[Json]:
        """What became of a request's actions, once all of it is known or the time is over; then what is known."""
        deadline = time.monotonic() + seconds
        while True:
            found: list[Json] = self.get(receipt["href"])["actions"]
            settled = len(found) >= len(receipt["taken"]) and all(map(_is_settled, found))
            if settled or time.monotonic() > deadline:
                return found
            self._wait(POLL_SECONDS)


def _is_settled(action: Json) -> bool:
    """Nothing follows a refusal, a discarding and an extension, and what notify and shelve do with an event is not
    in the ledger. Any other event that was sent has an outcome in time, or its letter is open again."""
    if action["outcome"] == "refused" or action["kind"] in {"discarded", "extended"}:
        return True
    if action["parked_stage"] in {"notify", "shelve"}:
        return True
    return action["event_outcome"] in _ENDED or action["parked_state"] == "open"


def path_of(*parts: str) -> str:
    """An address of the API; what an operator typed stays one part of it."""
    return "/api/" + "/".join(quote(part, safe="") for part in parts)


def _read(answer: httpx.Response) -> Json:
    try:
        body = answer.json()
    except ValueError:
        body = None
    if answer.is_success and isinstance(body, dict):
        return body
    if not isinstance(body, dict) or "title" not in body:
        raise UnreachableError(
            f"{answer.url.host} answered {answer.status_code}, but not as query does; is it query?"
        )
    raise _error(answer.status_code, body)


def _error(status: int, problem: Json) -> OperatorError:
    title = problem["title"]
    faults = [
        f"{fault['field'] or 'it'}: {fault['text']} ({fault['code']})" for fault in problem.get("errors", [])
    ]
    text = "\n  ".join([title, *faults])
    if status == httpx.codes.UNAUTHORIZED:
        return NotAllowedError(f"{title}: put one into ORDERFLOW_KEY, or name its file with --key-file")
    if status == httpx.codes.FORBIDDEN:
        return NotAllowedError(text)
    if status in {httpx.codes.BAD_REQUEST, httpx.codes.REQUEST_ENTITY_TOO_LARGE}:
        return WrongUsageError(text)
    if status == httpx.codes.SERVICE_UNAVAILABLE:
        return UnreachableError(f"{text}; try again")
    return OperatorError(text)
