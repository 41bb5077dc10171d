"""Errors of requests to the API server."""

from __future__ import annotations


class ConflictError(Exception):
    """Somebody else wrote the object since it was read. Read it again and decide again."""


class ClusterError(Exception):
    """The API server did not answer, or refused; the text names the request."""
