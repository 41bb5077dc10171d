"""Requests for an operator's action, from a program or from a page's form: who sends them and what they say."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

from flask import abort, g, request
from pydantic import Field

from orderflow.actions.events import MAX_HOURS, ActionRequest, Operator
from orderflow.actions.service import Selection
from orderflow.adapters.http import idempotency_key
from orderflow.domain.events import parse
from orderflow.domain.orders import Frozen, Text
from orderflow.errors import ForbiddenError, PoisonError, Reason
from orderflow.messaging import cloudevent as ce

if TYPE_CHECKING:
    from orderflow.adapters.http.api_keys import Principal
    from orderflow.settings import Permission

log = logging.getLogger(__name__)

M = TypeVar("M", bound=Frozen)

OPERATOR: Final = "Orderflow-Operator"
"""The header that names the operator in a local run without API keys."""
MAX_BODY_BYTES: Final = 64 * 1024
MAX_EDITED_BYTES: Final = 1024 * 1024
"""An edited event may be as large as an event in the inbox."""


class OptionalReason(Frozen):
    reason: Text | None = None


class RequiredReason(Frozen):
    reason: Text


class WaitingExtension(OptionalReason):
    hours: float = Field(gt=0, le=MAX_HOURS)


class EventEdit(OptionalReason):
    """set: new values by path, null removes a path. event: the whole new event."""

    set: dict[str, Any] = Field(default_factory=dict)
    event: dict[str, Any] | None = None


class ReplayRequest(Selection):
    reason: Text | None = None
    dry_run: bool = False

    @property
    def selection(self) -> Selection:
        return Selection(ids=self.ids, order=self.order, stage=self.stage, code=self.code)


class _OperatorHeader(Frozen):
    operator: Operator


def operator_name(client: Principal, *, local: bool) -> str:
    """The operator's name for the action's event: the API key's name or, in a local run, the header's."""
    header = request.headers.get(OPERATOR, "")
    if not (local and header):
        return client.name
    try:
        return _OperatorHeader(operator=header).operator
    except ValueError:
        text = "a name is 1 to 64 letters, digits, dots, @, _ or -"
        raise PoisonError(Reason("operator_invalid", OPERATOR, text)) from None


def limit_body(max_bytes: int) -> None:
    request.max_content_length = request.max_form_memory_size = max_bytes


def check_same_site(*, page: bool) -> None:
    """Raises ForbiddenError where the request comes from another site.

    A browser sends the session's cookie, or the password of HTTP Basic, with every request, so a form on another site
    could act. Therefore a request of a browser must come from one of our own pages (page: it certainly is a
    browser's). Programs do not send the headers that name an origin.
    """
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if site is not None:
        same_site = site == "same-origin"
    elif origin is not None:
        same_site = urlsplit(origin).netloc == request.host
    else:
        same_site = not page
    if not same_site:
        raise ForbiddenError("This request must come from a page of this site", "cross_site")


def check_may(permission: Permission, *, page: bool) -> None:
    """Raises ForbiddenError unless the client has the permission and the request does not come from another site."""
    check_same_site(page=page or g.principal.person)
    require(permission)


def require(permission: Permission) -> None:
    """Raises ForbiddenError, which names the missing role, unless the client has the permission."""
    if not g.principal.may(permission):
        code = "role_missing" if g.principal.person else "read_only"
        raise ForbiddenError(refusal(g.principal, permission), code)


def refusal(client: Principal, permission: Permission) -> str:
    """Why the client may not do what needs the permission, empty where it may."""
    if client.may(permission):
        return ""
    if client.person:
        return f"This needs the role {permission}, which {client.name} does not have"
    return "This API key may only read; actions need a key with act = true"


def reveals_personal_data(parked_id: str) -> bool:
    """Whether the client asks for personal data; if so, the log notes the client. Raises ForbiddenError where the
    client may not see personal data."""
    reveal = request.args.get("reveal") == "1"
    if reveal:
        require("reveal")
        log_personal_data_shown(parked_id)
    return reveal


def log_personal_data_shown(parked_id: str) -> None:
    log.info("personal data shown", extra={"parked_id": parked_id, "client": g.principal.name})


def parse_body(model: type[M]) -> M:
    """Parses the JSON body. Raises PoisonError naming each invalid field."""
    content = request.get_data()
    if content and request.mimetype != ce.JSON:  # the one media type that another site's form cannot send
        abort(415)
    return parse(model, content or b"{}")


def action_request(reason: str | None) -> ActionRequest:
    """The request's identity: the same client with the same Idempotency-Key makes the same request."""
    value = request.headers.get("Idempotency-Key") or request.form.get("key", "")
    key = idempotency_key.read(value, "1 to 255 printable ASCII characters, one value per request")
    identity = ce.derived_id("request", g.operator, request.path, key) if key else str(uuid4())
    return ActionRequest(identity, g.operator, ce.now(), reason)
