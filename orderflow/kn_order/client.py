"""The client of query's API."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote
from uuid import uuid4

import httpx

from orderflow.kn_order.errors import (
    NotAllowedError,
    NotFoundError,
    OperatorError,
    UnreachableError,
    WrongUsageError,
)
from orderflow.version import user_agent

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.kn_order.connection import Connection

Json = dict[str, Any]

ATTEMPTS: Final = 4
PAUSE_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.25
_TIMEOUT: Final = httpx.Timeout(330, connect=10)
_OPERATOR: Final = "Orderflow-Operator"
_FINAL_OUTCOMES: Final = frozenset({"applied", "refused", "waiting", "parked"})


class Client:
    """A context manager. All attempts of one action have the same Idempotency-Key, so that it takes effect once."""

    def __init__(self, connection: Connection, wait: Callable[[float], None] = time.sleep) -> None:
        headers = {"Accept": "application/json", "User-Agent": user_agent("kn-order")}
        if connection.key:
            headers["Authorization"] = f"Bearer {connection.key}"
        elif connection.operator:
            headers[_OPERATOR] = connection.operator
        self._http = httpx.Client(base_url=connection.server, headers=headers, timeout=_TIMEOUT)
        self._wait = wait

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **arguments: str | int | None) -> Json:
        """Raises OperatorError, or the subclass for the kind of error."""
        params = {name: str(value) for name, value in arguments.items() if value not in {None, ""}}
        # Not {}: httpx would remove the query string that path has.
        return self._request("GET", path, params=params or None)

    def post(self, path: str, body: Json) -> Json:
        """Raises OperatorError, or the subclass for the kind of error."""
        return self._request("POST", path, json=body, headers={"Idempotency-Key": str(uuid4())})

    def _request(self, method: str, path: str, **options: Any) -> Json:  # noqa: ANN401 - httpx's own
        for attempt in range(1, ATTEMPTS + 1):
            last = attempt == ATTEMPTS
            try:
                response = self._http.request(method, path, **options)
            except httpx.TransportError as error:
                if last or isinstance(error, httpx.UnsupportedProtocol):
                    raise UnreachableError(
                        f"{self._http.base_url} cannot be reached; is query running, and is the address right?"
                    ) from None
            else:
                if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or last or "audits" in path:
                    return _parse(response)
            self._wait(PAUSE_SECONDS)
        raise AssertionError

    def outcomes(self, receipt: Json, seconds: float) -> list[Json]:
        """Waits until the outcome of every action in the receipt is known, at most for so many seconds; returns the
        actions that are recorded then."""
        deadline = time.monotonic() + seconds
        while True:
            actions: list[Json] = self.get(receipt["href"])["actions"]
            finished = len(actions) >= len(receipt["taken"]) and all(map(_is_finished, actions))
            if finished or time.monotonic() > deadline:
                return actions
            self._wait(POLL_SECONDS)


def _is_finished(action: Json) -> bool:
    """Refusals, discards and extensions have no later outcome. The ledger has no events for notify and shelve, so those
    are finished once they are sent. Each other event gets an outcome in the ledger, or its parked event is open
    again."""
    if action["outcome"] == "refused" or action["kind"] in {"discarded", "extended"}:
        return True
    if action["outcome"] == "done" and action["parked_stage"] in {"notify", "shelve"}:
        return True
    return action["event_outcome"] in _FINAL_OUTCOMES or action["parked_state"] == "open"


def path_of(*parts: str) -> str:
    """A path of the API. Each part is escaped: an id that an operator typed cannot lead to another path."""
    return "/api/" + "/".join(quote(part, safe="") for part in parts)


def _parse(response: httpx.Response) -> Json:
    try:
        body = response.json()
    except ValueError:
        body = None
    if response.is_success and isinstance(body, dict):
        return body
    if not isinstance(body, dict) or "title" not in body:
        raise UnreachableError(
            f"{response.url.host} answered {response.status_code}, but not as query does; is it query?"
        )
    raise _error(response.status_code, body)


def _error(status: int, problem: Json) -> OperatorError:
    title = problem["title"]
    faults = [
        f"{fault['field'] or 'it'}: {fault['text']} ({fault['code']})" for fault in problem.get("errors", [])
    ]
    text = "\n  ".join([title, *faults])
    if status == httpx.codes.UNAUTHORIZED:
        return NotAllowedError(f"{title}: set one in ORDERFLOW_KEY, or name its file with --key-file")
    if status == httpx.codes.FORBIDDEN:
        return NotAllowedError(text)
    if status in {httpx.codes.BAD_REQUEST, httpx.codes.REQUEST_ENTITY_TOO_LARGE}:
        return WrongUsageError(text)
    if status == httpx.codes.NOT_FOUND:
        return NotFoundError(text)
    if status == httpx.codes.SERVICE_UNAVAILABLE:
        return UnreachableError(f"{text}; try again")
    return OperatorError(text)
