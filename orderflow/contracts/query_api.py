"""Query's operations for programs. The pages for people have other addresses and are not part of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from orderflow.contracts import answers
from orderflow.contracts.operations import JSON, Answer, Body, Operation, Parameter, problem
from orderflow.query.api import metrics
from orderflow.query.api.releases import AuditQuery, ReleaseQuery
from orderflow.query.requests import (
    OPERATOR,
    EventEdit,
    OptionalReason,
    ReplayRequest,
    RequiredReason,
    WaitingExtension,
)
from orderflow.query.store.filters import OrderFilter, ParkedFilter
from orderflow.query.store.release_evidence import STAGES
from orderflow.query.store.statistics import Outcomes

if TYPE_CHECKING:
    from orderflow.domain.orders import Frozen

_DOCUMENT: Final[dict[str, Any]] = {"type": "object"}
_TEXT: Final[dict[str, Any]] = {"type": "string", "minLength": 1}
_ORDER: Final = Parameter("order_id", "path", _TEXT, "The order id.")
_PARKED: Final = Parameter("parked_id", "path", _TEXT, "The parked event's id.")
_STAGE: Final = Parameter(
    "stage", "path", {"type": "string", "enum": list(STAGES)}, "The stage that is released."
)
_REVEAL: Final = Parameter(
    "reveal", "query", {"type": "string", "enum": ["1"]}, "Show personal data; the log notes who sees it."
)
_KEY: Final = Parameter(
    "Idempotency-Key",
    "header",
    {"type": "string", "maxLength": 255, "pattern": "^[\\x20-\\x7e]*$"},
    "One value per action: a repeated request with the same value is the same action. Without it, each request is a"
    " new action.",
)
_OPERATOR: Final = Parameter(
    OPERATOR,
    "header",
    {"type": "string", "maxLength": 64, "pattern": "^[A-Za-z0-9@._-]+$"},
    "The operator's name, in a local run without API keys; else it is the key's name.",
)
_ACTION_HEADERS: Final = (_KEY, _OPERATOR)

_BAD: Final = problem(400, "Invalid; errors names each invalid field.")
_NO_KEY: Final = problem(401, "No valid API key.", ("WWW-Authenticate", "How to send a key."))
_FORBIDDEN: Final = problem(403, "The key may only read, or the request comes from another site.")
_NOT_FOUND: Final = problem(404, "It does not exist.")
_CONFLICT: Final = problem(409, "Somebody else has changed it: read again.")
_TOO_LARGE: Final = problem(413, "The body is too large.")
_OTHER_TYPE: Final = problem(415, "The body must be application/json.")
_FAILED: Final = problem(500, "The request failed; the log says where.")
_UNAVAILABLE: Final = problem(
    503, "The database or Kafka did not answer.", ("Retry-After", "Seconds until then.")
)
_SERVER_ERRORS: Final = (_FAILED, _UNAVAILABLE)
_READ_ERRORS: Final = (_NO_KEY, *_SERVER_ERRORS)
_ACTION_ERRORS: Final = (_BAD, _NO_KEY, _FORBIDDEN, _NOT_FOUND, _TOO_LARGE, _OTHER_TYPE, *_SERVER_ERRORS)
_ACCEPTED: Final = Answer(
    202, "Accepted; href has the outcome once there is one.", answers.ReceiptWithAddress
)
_OPTIONAL_REASON: Final = Body({JSON: OptionalReason}, required=False)


def _read(
    path: str,
    name: str,
    text: str,
    tag: str,
    model: type[Any],
    *more: Answer,
    of: Parameter | None = None,
    reveal: Parameter | None = None,
    query: type[Frozen] | None = None,
    details: str = "",
) -> Operation:
    parameters = tuple(parameter for parameter in (of, reveal) if parameter is not None)
    responses = (Answer(200, "", model), *more, *_READ_ERRORS)
    return Operation(
        "get", path, name, text, tag, responses, parameters=parameters, query=query, details=details
    )


def _act(path: str, name: str, text: str, body: Body, of: Parameter, *more: Answer) -> Operation:
    tag = "orders" if of is _ORDER else "parked"
    return Operation(
        "post",
        path,
        name,
        text,
        tag,
        (_ACCEPTED, *_ACTION_ERRORS, *more),
        parameters=(of, *_ACTION_HEADERS),
        body=body,
    )


def _contract(
    path: str, name: str, text: str, *responses: Answer, parameters: tuple[Parameter, ...] = ()
) -> Operation:
    return Operation(
        "get", path, name, text, "contracts", (*responses, _NO_KEY, _FAILED), parameters=parameters
    )


OPERATIONS: Final = (
    _read(
        "/api/orders",
        "listOrders",
        "Orders, latest first",
        "orders",
        answers.OrdersPage,
        _BAD,
        query=OrderFilter,
    ),
    _read(
        "/api/orders/{order_id}",
        "readOrder",
        "An order, its history and its notifications",
        "orders",
        answers.OrderDetail,
        _NOT_FOUND,
        of=_ORDER,
    ),
    *(
        _act(f"/api/orders/{{order_id}}/{verb}", f"{verb}Order", text, Body({JSON: RequiredReason}), _ORDER)
        for verb, text in (
            ("hold", "Hold an order"),
            ("release", "Release a held order"),
            ("cancel", "Cancel an order"),
        )
    ),
    _act(
        "/api/orders/{order_id}/extend",
        "extendWaiting",
        "Let an order's waiting events wait longer",
        Body({JSON: WaitingExtension}),
        _ORDER,
    ),
    _read(
        "/api/parked",
        "listParked",
        "Parked events, latest first",
        "parked",
        answers.ParkedPage,
        _BAD,
        query=ParkedFilter,
    ),
    _read(
        "/api/parked/{parked_id}",
        "readParked",
        "A parked event with its content",
        "parked",
        answers.ParkedDetail,
        _NOT_FOUND,
        of=_PARKED,
        reveal=_REVEAL,
    ),
    Operation(
        "post",
        "/api/parked/replay",
        "replayMany",
        "Replay parked events in the order in which they happened",
        "parked",
        (
            Answer(200, "With dry_run: what would be replayed.", answers.ReceiptWithAddress),
            _ACCEPTED,
            _BAD,
            _NO_KEY,
            _FORBIDDEN,
            _TOO_LARGE,
            _OTHER_TYPE,
            *_SERVER_ERRORS,
        ),
        parameters=_ACTION_HEADERS,
        body=Body({JSON: ReplayRequest}),
    ),
    _act(
        "/api/parked/{parked_id}/replay",
        "replayParked",
        "Replay a parked event",
        _OPTIONAL_REASON,
        _PARKED,
        _CONFLICT,
    ),
    _act(
        "/api/parked/{parked_id}/edit",
        "editParked",
        "Edit a parked event and send it",
        Body({JSON: EventEdit}),
        _PARKED,
        _CONFLICT,
    ),
    _act(
        "/api/parked/{parked_id}/discard",
        "discardParked",
        "Discard a parked event",
        Body({JSON: RequiredReason}),
        _PARKED,
        _CONFLICT,
    ),
    _read(
        "/api/actions/{request_id}",
        "readActions",
        "The outcome of a request",
        "actions",
        answers.ActionResults,
        of=Parameter("request_id", "path", _TEXT, "The request in the receipt."),
    ),
    _read("/api/rates", "readRates", "What each stage did in the last minutes", "state", answers.Rates),
    _read("/api/outcomes", "readOutcomes", "The outcomes of all events so far", "state", Outcomes),
    Operation(
        "get",
        "/metrics",
        "readMetrics",
        "The same, for Prometheus",
        "state",
        (Answer(200, "Prometheus' text format.", media=(metrics.CONTENT_TYPE,)), *_READ_ERRORS),
    ),
    _read(
        "/api/audits/last",
        "readLastAudit",
        "The last run of the audit",
        "audit",
        answers.AuditRun,
        _NOT_FOUND,
    ),
    Operation(
        "post",
        "/api/audits",
        "runAudit",
        "Run the audit now",
        "audit",
        (
            Answer(200, "Its report.", answers.AuditReport),
            _NO_KEY,
            _FORBIDDEN,
            _CONFLICT,
            *_SERVER_ERRORS,
        ),
    ),
    _read(
        "/api/releases/{stage}",
        "judgeRelease",
        "Whether a stage's new revision treats orders worse",
        "releases",
        answers.ReleaseVerdict,
        _BAD,
        _NOT_FOUND,
        of=_STAGE,
        query=ReleaseQuery,
    ),
    _read(
        "/api/releases/{stage}/audit",
        "judgeReleaseByAudit",
        "Whether the audit recently found more of its events missing",
        "releases",
        answers.ReleaseVerdict,
        _BAD,
        _NOT_FOUND,
        of=_STAGE,
        query=AuditQuery,
    ),
    _read(
        "/api/rollouts",
        "listRollouts",
        "Releases in progress",
        "releases",
        answers.Rollouts,
        _NOT_FOUND,
        details="404 where query has no cluster.",
    ),
    _read(
        "/api/rollouts/{name}",
        "readRollout",
        "A release, its steps and revisions",
        "releases",
        answers.RolloutDetail,
        _NOT_FOUND,
        of=Parameter("name", "path", _TEXT, "The KnativeRollout's name."),
        details="404 where query has no cluster.",
    ),
    _contract(
        "/openapi.json", "readOpenApi", "This description", Answer(200, "OpenAPI 3.1.", schema=_DOCUMENT)
    ),
    _contract("/contracts", "listContracts", "All contracts", Answer(200, "Their paths.", answers.Contracts)),
    _contract(
        "/contracts/{path}",
        "readContract",
        "A contract: a JSON Schema, an OpenAPI or an AsyncAPI description",
        Answer(200, "The document.", schema=_DOCUMENT),
        _NOT_FOUND,
        parameters=(Parameter("path", "path", _TEXT, "A path from the list, with its slashes."),),
    ),
)
