"""One proxied request, from its arrival to the end of its answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from orderflow_sandbox.serving.launch import LOOPBACK
from orderflow_sandbox.serving.link import Link

if TYPE_CHECKING:
    from orderflow_sandbox.serving.caller import Caller
    from orderflow_sandbox.serving.instance import Instance
    from orderflow_sandbox.serving.pool import Pool

# RFC 9110 7.6.1; content-length is written anew because bodies are buffered.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_GOES = 3


@dataclass(slots=True)
class Request:
    """A request read whole. `head` is its end-to-end header lines, as they came."""

    method: bytes
    target: bytes
    host: bytes
    head: bytes
    body: bytes
    has_body: bool
    keep_alive: bool
    chunks_allowed: bool

    def to_instance(self) -> bytes:
        """The bytes an instance gets; without content-length where none came (a tombstone)."""
        length = b"content-length: %d\r\n" % len(self.body) if self.has_body else b""
        return b"%b %b HTTP/1.1\r\n%b%b\r\n%b" % (
            self.method,
            self.target,
            self.head,
            length,
            self.body,
        )


def answer(status: int, reason: str, *, keep_alive: bool) -> bytes:
    """A plain-text answer of the ingress itself."""
    body = f"{reason}\n".encode()
    return b"HTTP/1.1 %d %b\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n%b\r\n%b" % (
        status,
        HTTPStatus(status).phrase.encode(),
        len(body),
        b"" if keep_alive else b"connection: close\r\n",
        body,
    )


class Exchange:
    """Asks a pool for an instance, sends the request once, passes the answer on as it comes.

    Its time runs from arrival, as in the activator: waiting for a cold start counts.
    """

    __slots__ = (
        "_caller",
        "_connecting",
        "_goes",
        "_instance",
        "_link",
        "_loop",
        "_over",
        "_pool",
        "_started",
        "_timer",
        "request",
    )

    def __init__(self, caller: Caller, request: Request, pool: Pool) -> None:
        """Nothing happens until `begin`."""
        self.request = request
        self._caller = caller
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._instance: Instance | None = None
        self._link: Link | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._started = False
        self._over = False
        self._goes = 0

    def begin(self) -> None:
        """Count it, start its clock, ask for an instance."""
        pool = self._pool
        pool.counts.requests += 1
        pool.load.change(1, self._loop.time())
        self._timer = self._loop.call_later(pool.timeout, self._time_is_up)
        pool.submit(self)

    # What the pool says.

    def assign(self, instance: Instance) -> None:
        """An instance has room for it."""
        self._instance = instance
        self._goes += 1
        link = instance.idle_link(self._loop.time())
        if link is not None:
            self._send(link)
        else:
            self._connecting = self._loop.create_task(self._connect(instance))

    def refuse(self, status: int, reason: str) -> None:
        """No instance will have it."""
        self._finish(status)
        self._caller.answer(status, reason)

    # What the link says.

    def pass_on(self, status: int, data: bytes) -> None:
        """Some of the answer, framed for the caller; the first piece holds its head."""
        if not self._started:
            self._started = True
            self._pool.counts.codes[status] += 1
        self._caller.send(data)

    def complete(self, *, close: bool) -> None:
        """The answer is whole; `close` where only the end of the connection says so."""
        self._finish(None)
        self._caller.done(close=close)

    def broken(self, why: str) -> None:
        """The connection ended before the answer did."""
        self._link = None
        started = self._started
        self._finish(None if started else 502)
        if started:
            self._caller.abort()
        else:
            self._caller.answer(502, f"{self._pool.revision}: {why}")

    # What the caller says.

    def cancel(self) -> None:
        """The caller is gone. The instance sees its connection close, as behind Knative."""
        if not self._over:
            self._drop_link()
            self._finish(None)

    def pause(self) -> None:
        """The caller reads slower than the instance writes."""
        if self._link is not None:
            self._link.pause()

    def resume(self) -> None:
        """The caller has caught up."""
        if self._link is not None:
            self._link.resume()

    async def _connect(self, instance: Instance) -> None:
        try:
            _, link = await self._loop.create_connection(lambda: Link(instance), LOOPBACK, instance.port)
        except OSError as error:
            self._not_connected(instance, error)
        else:
            if self._over:
                link.close()
            else:
                self._send(link)

    def _not_connected(self, instance: Instance, error: OSError) -> None:
        if self._over:
            return
        pool = self._pool
        pool.refused(instance)
        self._instance = None
        pool.release(instance)
        if self._goes < _GOES:
            # Nothing was sent, so another instance may have it.
            pool.submit(self)
        else:
            self.refuse(502, f"{pool.revision}: {error.strerror or 'connection failed'}")

    def _send(self, link: Link) -> None:
        self._link = link
        link.send(self, self.request)

    def _time_is_up(self) -> None:
        if self._over:
            return
        started = self._started
        self._drop_link()
        self._finish(None if started else 504)
        if started:
            self._caller.abort()
        else:
            self._caller.answer(504, f"{self._pool.revision}: request timeout")

    def _drop_link(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            self._link.forget()
            self._link = None

    def _finish(self, status: int | None) -> None:
        """Give everything back, once. `status` is counted unless the instance gave one."""
        if self._over:
            return
        self._over = True
        pool = self._pool
        if status is not None:
            pool.counts.codes[status] += 1
        if self._timer is not None:
            self._timer.cancel()
        pool.load.change(-1, self._loop.time())
        if self._instance is None:
            pool.withdraw(self)
        else:
            instance, self._instance = self._instance, None
            pool.release(instance)
