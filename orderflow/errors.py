"""Every error that a stage tells apart."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something was rejected, held, refused or parked.

    code is for machines and stays the same over releases, field is a path such as `lines.0.sku`
    (empty where no single field is to blame), text is a sentence without personal data.
    """

    code: str
    field: str
    text: str


class OrderflowError(Exception):
    """The base of all errors of ours."""


class BadSettingsError(OrderflowError):
    """The process cannot start: the message names each setting and what is wrong with it."""


class OldSchemaError(OrderflowError):
    """The process cannot start: the message names the migrations that the database lacks."""


class PoisonError(OrderflowError):
    """An event that no repetition can cure. It is parked, or refused with a 4xx at the door."""

    def __init__(self, *reasons: Reason) -> None:
        super().__init__(reasons[0].code)
        self.reasons = reasons


class UnavailableError(OrderflowError):
    """Kafka, the database or an outside server did not confirm: time may cure it, so answer 5xx."""


class UnknownError(OrderflowError):
    """There is no such order or parked event; the message says which."""


class ForbiddenError(OrderflowError):
    """Whoever asks may not. The message is a sentence, code tells machines why."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code


class ConflictError(OrderflowError):
    """Somebody else changed the order or took the event since it was read: read again."""
