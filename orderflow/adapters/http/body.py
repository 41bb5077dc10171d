"""Reading a request's body: a fifth of what a small request costs, where it goes through an async generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from starlette.requests import Request


class TooLargeError(Exception):
    """The body is longer than it may be."""


async def read(request: Request, most: int | None = None) -> bytes:
    """The whole body; it must not have been read before. No more than `most` bytes are taken in.

    Raises TooLargeError, and Starlette's ClientDisconnect where the client is gone.
    """
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(part)
        if most is not None and size > most:
            raise TooLargeError
        if not (parts or more):
            return part
        parts.append(part)
    return b"".join(parts)
