"""What query answers to programs. The pages for people have addresses of their own, and are no contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from orderflow.contracts import answers
from orderflow.contracts.operations import JSON, Answer, Body, Operation, Parameter, problem
from orderflow.query.api import metrics
from orderflow.query.api.releases import AuditQuestion, Question
from orderflow.query.requests import OPERATOR, Edit, Longer, MustSayWhy, ReplayMany, Why
from orderflow.query.store.filters import OrderFilter, ParkedFilter
from orderflow.query.store.read_model import Outcomes
from orderflow.query.store.release_evidence import STAGES

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
    "reveal", "query", {"type": "string", "enum": ["1"]}, "Show personal data; the log records who asked."
)
_KEY: Final = Parameter(
    "Idempotency-Key",
    "header",
    {"type": "string", "maxLength": 255, "pattern": "^[\\x20-\\x7e]*$"},
    "One value per request: with it, a repeated request is the same. Without it, each request is another.",
)
_WHO: Final = Parameter(
    OPERATOR,
    "header",
    {"type": "string", "maxLength": 64, "pattern": "^[A-Za-z0-9@._-]+$"},
    "Who acts, in a local run without keys; otherwise the key says it.",
)
_ACTING: Final = (_KEY, _WHO)

_BAD: Final = problem(400, "Invalid request; errors names each field at fault.")
_NO_KEY: Final = problem(401, "No valid API key.", ("WWW-Authenticate", "How to send one."))
_MAY_NOT: Final = problem(403, "The key may only read, or the request comes from another site.")
_UNKNOWN: Final = problem(404, "There is no such thing.")
_CONFLICT: Final = problem(409, "Somebody else changed it first: read it again.")
_TOO_LARGE: Final = problem(413, "The body is too large.")
_OTHER_TYPE: Final = problem(415, "The body must be application/json.")
_FAILED: Final = problem(500, "This failed; the log says where.")
_UNAVAILABLE: Final = problem(
    503, "The database or Kafka did not answer.", ("Retry-After", "Seconds until then.")
)
_TROUBLE: Final = (_FAILED, _UNAVAILABLE)
_READING: Final = (_NO_KEY, *_TROUBLE)
_REFUSALS: Final = (_BAD, _NO_KEY, _MAY_NOT, _UNKNOWN, _TOO_LARGE, _OTHER_TYPE, *_TROUBLE)
_TAKEN: Final = Answer(202, "Accepted; href has the outcome once there is one.", answers.ReceiptShown)
_OPTIONAL: Final = Body({JSON: Why}, required=False)


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
    given = tuple(each for each in (of, reveal) if each is not None)
    told = (Answer(200, "", model), *more, *_READING)
    return Operation("get", path, name, text, tag, told, parameters=given, query=query, details=details)


def _act(path: str, name: str, text: str, body: Body, of: Parameter, *more: Answer) -> Operation:
    tag = "orders" if of is _ORDER else "parked"
    return Operation(
        "post", path, name, text, tag, (_TAKEN, *_REFUSALS, *more), parameters=(of, *_ACTING), body=body
    )


def _contract(
    path: str, name: str, text: str, *told: Answer, parameters: tuple[Parameter, ...] = ()
) -> Operation:
    return Operation("get", path, name, text, "contracts", (*told, _NO_KEY, _FAILED), parameters=parameters)


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
        "An order, its history and everything that was sent",
        "orders",
        answers.OrderDetail,
        _UNKNOWN,
        of=_ORDER,
    ),
    *(
        _act(f"/api/orders/{{order_id}}/{verb}", f"{verb}Order", text, Body({JSON: MustSayWhy}), _ORDER)
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
        Body({JSON: Longer}),
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
        _UNKNOWN,
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
            Answer(200, "With dry_run: what would be replayed.", answers.ReceiptShown),
            _TAKEN,
            _BAD,
            _NO_KEY,
            _MAY_NOT,
            _TOO_LARGE,
            _OTHER_TYPE,
            *_TROUBLE,
        ),
        parameters=_ACTING,
        body=Body({JSON: ReplayMany}),
    ),
    _act(
        "/api/parked/{parked_id}/replay",
        "replayParked",
        "Replay a parked event",
        _OPTIONAL,
        _PARKED,
        _CONFLICT,
    ),
    _act(
        "/api/parked/{parked_id}/edit",
        "editParked",
        "Correct a parked event and send it again",
        Body({JSON: Edit}),
        _PARKED,
        _CONFLICT,
    ),
    _act(
        "/api/parked/{parked_id}/discard",
        "discardParked",
        "Discard it",
        Body({JSON: MustSayWhy}),
        _PARKED,
        _CONFLICT,
    ),
    _read(
        "/api/actions/{request_id}",
        "readActions",
        "The outcome of a request",
        "actions",
        answers.ActionsOf,
        of=Parameter("request_id", "path", _TEXT, "The receipt's request."),
    ),
    _read("/api/rates", "readRates", "What each stage did in the last minutes", "state", answers.Rates),
    _read("/api/outcomes", "readOutcomes", "What became of everything so far", "state", Outcomes),
    Operation(
        "get",
        "/metrics",
        "readMetrics",
        "The same for Prometheus",
        "state",
        (Answer(200, "Prometheus' text format.", media=(metrics.CONTENT_TYPE,)), *_READING),
    ),
    _read(
        "/api/audits/last", "readLastAudit", "The last run of the audit", "audit", answers.AuditRun, _UNKNOWN
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
            _MAY_NOT,
            _CONFLICT,
            *_TROUBLE,
        ),
    ),
    _read(
        "/api/releases/{stage}",
        "judgeRelease",
        "Does a stage's new revision treat orders worse?",
        "releases",
        answers.Released,
        _BAD,
        _UNKNOWN,
        of=_STAGE,
        query=Question,
    ),
    _read(
        "/api/releases/{stage}/audit",
        "judgeReleaseByAudit",
        "Has the audit missed more of its events lately?",
        "releases",
        answers.Released,
        _BAD,
        _UNKNOWN,
        of=_STAGE,
        query=AuditQuestion,
    ),
    _read(
        "/api/rollouts",
        "listRollouts",
        "Releases in progress",
        "releases",
        answers.Rollouts,
        _UNKNOWN,
        details="404 where query was not given a cluster.",
    ),
    _read(
        "/api/rollouts/{name}",
        "readRollout",
        "A release, its steps and revisions",
        "releases",
        answers.RolloutShown,
        _UNKNOWN,
        of=Parameter("name", "path", _TEXT, "The KnativeRollout's name."),
        details="404 where query was not given a cluster.",
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
        _UNKNOWN,
        parameters=(Parameter("path", "path", _TEXT, "As the list has it; its slashes are slashes."),),
    ),
)
