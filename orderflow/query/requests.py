"""Who may ask for an action, and how a request to act is read: from a program or from a page's form."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

from flask import abort, g, request
from pydantic import Field

from orderflow.actions.events import MAX_HOURS, Operator
from orderflow.actions.events import ActionRequest as Asked
from orderflow.actions.service import Selection
from orderflow.domain.events import parse
from orderflow.domain.orders import Frozen, Text
from orderflow.errors import ForbiddenError, PoisonError, Reason
from orderflow.messaging import cloudevent as ce

if TYPE_CHECKING:
    from orderflow.adapters.http.api_keys import Principal

log = logging.getLogger(__name__)

M = TypeVar("M", bound=Frozen)

OPERATOR: Final = "Orderflow-Operator"
"""The header that names who acts, in a local run without keys."""
MOST_BODY: Final = 64 * 1024
MOST_EDITED: Final = 1024 * 1024
"""An edited event may be as large as the inbox takes one."""
_LONGEST_KEY: Final = 255


class Why(Frozen):
    reason: Text | None = None


class MustSayWhy(Frozen):
    reason: Text


class Longer(Why):
    hours: float = Field(gt=0, le=MAX_HOURS)


class Edit(Why):
    """set changes the event by path, and null takes something out; event is the whole of it."""

    set: dict[str, Any] = Field(default_factory=dict)
    event: dict[str, Any] | None = None


class ReplayMany(Selection):
    reason: Text | None = None
    dry_run: bool = False

    @property
    def selection(self) -> Selection:
        return Selection(ids=self.ids, order=self.order, stage=self.stage, code=self.code)


class _Named(Frozen):
    operator: Operator


def operator(client: Principal, *, local: bool) -> str:
    """The name that goes into the event: the key's or, in a local run, what the header says."""
    given = request.headers.get(OPERATOR, "")
    if not (local and given):
        return client.name
    try:
        return _Named(operator=given).operator
    except ValueError:
        text = "a name is 1 to 64 letters, digits, dots, @, _ or -"
        raise PoisonError(Reason("operator_invalid", OPERATOR, text)) from None


def guard(*, page: bool) -> None:
    """To be asked before anything that acts. Raises ForbiddenError.

    Browsers send HTTP Basic's password along wherever a request comes from, so a form on another site could act:
    what a browser sends must come from a page of ours. Programs say nothing of where they are.
    """
    where = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if where is not None:
        ours = where == "same-origin"
    elif origin is not None:
        ours = urlsplit(origin).netloc == request.host
    else:
        ours = not page
    if not ours:
        raise ForbiddenError("This has to come from a page of this site", "cross_site")
    if not g.may_act:
        raise ForbiddenError("This API key may only read; one with `act = true` may act", "read_only")


def note_revealed(parked_id: str) -> None:
    log.info("personal data shown", extra={"parked_id": parked_id, "client": g.client})


def body(model: type[M]) -> M:
    """The JSON that was sent. Raises PoisonError naming the fields at fault."""
    content = request.get_data()
    if content and request.mimetype != ce.JSON:  # a form of another site can send everything but this
        abort(415)
    return parse(model, content or b"{}")


def asked(reason: str | None) -> Asked:
    """The request as an action needs it; the same Idempotency-Key by the same client is the same request."""
    key = request.headers.get("Idempotency-Key") or request.form.get("key", "")
    if len(key) > _LONGEST_KEY or not key.isascii() or not key.isprintable():
        text = "1 to 255 printable ASCII characters, one value per request"
        raise PoisonError(Reason("idempotency_key_invalid", "Idempotency-Key", text))
    identity = ce.derived_id("request", g.operator, request.path, key) if key else str(uuid4())
    return Asked(identity, g.operator, ce.now(), reason)
