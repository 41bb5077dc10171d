"""The errors that a stage distinguishes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an order or event was rejected, held, refused or parked.

    code is for machines and is stable across releases. field is a path such as `lines.0.sku`, empty where the fault is
    not in a single field. text is a sentence for people, without personal data.
    """

    code: str
    field: str
    text: str


class OrderflowError(Exception):
    """The base class of all errors of Orderflow."""


class BadSettingsError(OrderflowError):
    """The process cannot start: the message names each setting and what is wrong with it."""


class SchemaOutdatedError(OrderflowError):
    """The process cannot start: the message names the migrations that the database lacks."""


class PoisonError(OrderflowError):
    """The event can never be handled, however often it comes. A stage parks it; intake answers with a 4xx."""

    def __init__(self, *reasons: Reason) -> None:
        super().__init__(reasons[0].code)
        self.reasons = reasons


class TransientError(OrderflowError):
    """Kafka, the database or an outside server did not confirm. A repetition may succeed, so the response is a 5xx."""


class NotFoundError(OrderflowError):
    """The order or parked event does not exist; the message names it."""


class ForbiddenError(OrderflowError):
    """The caller has no permission. The message is a sentence for people, code is for machines."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code


class ConflictError(OrderflowError):
    """Another transaction changed the order or took the event since it was read. Read again and retry."""
