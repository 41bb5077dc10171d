"""Errors that end the command, each with its exit code."""

from __future__ import annotations


class OperatorError(Exception):
    """The request was not carried out. The message says why and what to do next; code is the exit code."""

    code = 1


class WrongUsageError(OperatorError):
    code = 2


class UnreachableError(OperatorError):
    code = 3


class NotAllowedError(OperatorError):
    code = 4


class NotFoundError(OperatorError):
    """There is no order, event or run with this id."""
