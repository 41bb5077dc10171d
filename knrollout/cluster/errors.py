"""What can go wrong between a controller or a command and the API server."""

from __future__ import annotations


class ConflictError(Exception):
    """Somebody else wrote the object since it was read. Read again and decide anew."""


class ClusterError(Exception):
    """The API server could not be asked, or refused; the text says what was asked for."""
