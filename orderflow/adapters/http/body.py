"""Reads a body without Starlette's async generator, which costs a fifth of a small request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from starlette.requests import Request


class TooLargeError(Exception):
    """The body is larger than the limit."""


async def read(request: Request, max_bytes: int | None = None) -> bytes:
    """The whole body, which must not have been read before.

    Raises TooLargeError as soon as the body exceeds max_bytes, and Starlette's ClientDisconnect where the client is
    gone.
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
        if max_bytes is not None and size > max_bytes:
            raise TooLargeError
        if not (parts or more):
            return part
        parts.append(part)
    return b"".join(parts)
