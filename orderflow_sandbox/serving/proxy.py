"""The ASGI application between callers and a revision's processes; in a cluster, Knative's ingress and activator.

A request is read whole, waits for a process with room, and is sent once. Its response is passed on as it comes.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orderflow_sandbox.http_client import UnreachableError
from orderflow_sandbox.serving.errors import RefusedError

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from orderflow_sandbox.http_client import Response
    from orderflow_sandbox.serving.pool import Pool
    from orderflow_sandbox.serving.routes import Routes

_log = logging.getLogger(__name__)

_HEAD_BYTES: Final = 64 * 1024
_WATCH_AFTER_SECONDS: Final = 0.05
_NOT_MODIFIED: Final = 304
_WITHOUT_BODY: Final = frozenset({204, _NOT_MODIFIED})
# RFC 9110 7.6.1. uvicorn and the parser do the framing of bodies.
_OF_ONE_CONNECTION: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"trailer", b"transfer-encoding"}
)
# The content-length of a request is written anew, since its body is sent whole.
_NOT_TO_INSTANCE: Final = _OF_ONE_CONNECTION | {b"content-length", b"expect", b"te", b"upgrade"}


@dataclass(slots=True)
class Request:
    """A request that was read whole; `data` is what an instance gets of it."""

    method: str
    host: bytes
    data: bytes
    takes_chunks: bool


class Proxy:
    """Without `service` it serves all Services, by Host header. `body_bound` is the largest body in bytes."""

    def __init__(self, routes: Routes, body_bound: int, service: str | None = None) -> None:
        self._routes = routes
        self._body_bound = body_bound
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            request = await self._read(scope, receive)
            pool = self._routes.pool_for(request.host, self._service)
        except RefusedError as refusal:
            await _answer(refusal, send)
            return
        except _CallerGoneError:
            return
        watch = _CallerWatch(receive)
        try:
            await _forward(request, pool, send)
        except asyncio.CancelledError:
            if not watch.caller_gone:
                raise
        except Exception:
            _log.exception("a request could not be forwarded", extra={"revision": pool.revision})
            raise
        finally:
            watch.stop()

    async def _read(self, scope: Scope, receive: Receive) -> Request:
        """Raises RefusedError where the request is not passed on."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        by_name = dict(headers)
        target = scope["raw_path"]
        if scope["query_string"]:
            target = b"%b?%b" % (target, scope["query_string"])
        head = b"".join([b"%b: %b\r\n" % header for header in headers if header[0] not in _NOT_TO_INSTANCE])
        if len(head) + len(target) > _HEAD_BYTES:
            raise RefusedError(431, "the headers are larger than the sandbox passes on", close=True)
        if b"upgrade" in by_name and b"upgrade" in by_name.get(b"connection", b"").lower():
            raise RefusedError(501, "protocol upgrades are not supported by the sandbox", close=True)
        body = b""
        # A request without content-length stays so: KafkaSource sends a tombstone like that.
        length = b""
        if b"content-length" in by_name or b"transfer-encoding" in by_name:
            body = await self._body(receive)
            length = b"content-length: %d\r\n" % len(body)
        method: str = scope["method"]
        data = b"%b %b HTTP/1.1\r\n%b%b\r\n%b" % (method.encode(), target, head, length, body)
        host = by_name.get(b"host", b"")
        return Request(method, host, data, takes_chunks=scope["http_version"] != "1.0")

    async def _body(self, receive: Receive) -> bytes:
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _CallerGoneError
            body += message["body"]
            more = message["more_body"]
            if len(body) > self._body_bound:
                raise RefusedError(413, "the body is larger than the sandbox passes on", close=True)
        return bytes(body)


class _CallerGoneError(Exception):
    pass


class _CallerWatch:
    """Cancels the current task when its caller closes the connection, so that the instance sees its own close.

    It begins to look after a moment, when most requests are answered: looking takes a task, a sixth of a request's CPU.
    """

    def __init__(self, receive: Receive) -> None:
        self.caller_gone = False
        self._receive = receive
        loop = asyncio.get_running_loop()
        self._request = asyncio.current_task(loop)
        self._task: asyncio.Task[None] | None = None
        self._timer = loop.call_later(_WATCH_AFTER_SECONDS, self._start)

    def stop(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _start(self) -> None:
        self._task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.caller_gone = True
        if self._request is not None:
            self._request.cancel()


async def _forward(request: Request, pool: Pool, send: Send) -> None:
    """The request's timeout begins here, as in the activator: waiting for a cold start counts."""
    started = False
    refusal: RefusedError | None = None
    pool.request_started()
    try:
        async with asyncio.timeout(pool.timeout):
            instance, connection = await pool.connect()
            try:
                response = await connection.request(request.data, method_is_head=request.method == "HEAD")
                started = True
                pool.counts.codes[response.status] += 1
                await _pass_on(response, request, send)
            finally:
                pool.release(instance)
    except TimeoutError:
        refusal = RefusedError(504, f"{pool.revision}: request timeout")
    except UnreachableError as error:
        refusal = RefusedError(502, f"{pool.revision}: {error}")
    except RefusedError as error:
        refusal = error
    finally:
        pool.request_ended()
    # A response that has begun stays incomplete, so that uvicorn closes the caller's connection.
    if refusal is not None and not started:
        pool.counts.codes[refusal.status] += 1
        await _answer(refusal, send)


async def _pass_on(response: Response, request: Request, send: Send) -> None:
    # The content-length of a 304 is that of a body that is not sent; uvicorn would wait for it.
    dropped = _NOT_TO_INSTANCE if response.status == _NOT_MODIFIED else _OF_ONE_CONNECTION
    headers = [header for header in response.headers if header[0].lower() not in dropped]
    piece = b""
    try:
        if not request.takes_chunks and request.method != "HEAD" and response.status not in _WITHOUT_BODY:
            piece = await _whole_body(response)
            headers = [header for header in headers if header[0].lower() != b"content-length"]
            headers.append((b"content-length", b"%d" % len(piece)))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        while not response.ended:
            piece = await response.read()
            if not response.ended:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": piece, "more_body": False})
    finally:
        response.abort()


async def _whole_body(response: Response) -> bytes:
    pieces = []
    while not response.ended:
        pieces.append(await response.read())
    return b"".join(pieces)


async def _answer(refusal: RefusedError, send: Send) -> None:
    body = f"{refusal}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    if refusal.close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
