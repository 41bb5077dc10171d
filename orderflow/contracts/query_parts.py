"""What query's operations share: parameters, responses and the shapes of operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from orderflow.contracts import answers
from orderflow.contracts.operations import JSON, Answer, Body, Operation, Parameter, problem
from orderflow.query.api.release_shadow import QUERY
from orderflow.query.requests import OPERATOR, OptionalReason
from orderflow.query.shadow.comparison import STAGES as JUDGING_STAGES
from orderflow.query.store.release_evidence import STAGES

if TYPE_CHECKING:
    from orderflow.domain.orders import Frozen

DOCUMENT: Final[dict[str, Any]] = {"type": "object"}
TEXT: Final[dict[str, Any]] = {"type": "string", "minLength": 1}
ORDER: Final = Parameter("order_id", "path", TEXT, "The order id.")
PARKED: Final = Parameter("parked_id", "path", TEXT, "The parked event's id.")
STAGE: Final = Parameter(
    "stage", "path", {"type": "string", "enum": list(STAGES)}, "The stage that is released."
)
JUDGING_STAGE: Final = Parameter(
    "stage", "path", {"type": "string", "enum": [*JUDGING_STAGES, QUERY]}, "The stage that is released."
)
REVEAL: Final = Parameter(
    "reveal", "query", {"type": "string", "enum": ["1"]}, "Show personal data; the log notes who sees it."
)
KEY: Final = Parameter(
    "Idempotency-Key",
    "header",
    {"type": "string", "maxLength": 255, "pattern": "^[\\x20-\\x7e]*$"},
    "One value per action: a repeated request with the same value is the same action. Without it, each request is a"
    " new action.",
)
OPERATOR_HEADER: Final = Parameter(
    OPERATOR,
    "header",
    {"type": "string", "maxLength": 64, "pattern": "^[A-Za-z0-9@._-]+$"},
    "The operator's name, in a local run without API keys; else it is the key's name.",
)
ACTION_HEADERS: Final = (KEY, OPERATOR_HEADER)

BAD: Final = problem(400, "Invalid; errors names each invalid field.")
NO_KEY: Final = problem(401, "No valid API key and no session.", ("WWW-Authenticate", "How to send a key."))
FORBIDDEN: Final = problem(403, "The key or the person lacks a role, or the request comes from another site.")
NOT_FOUND: Final = problem(404, "It does not exist.")
CONFLICT: Final = problem(409, "Somebody else has changed it: read again.")
TOO_LARGE: Final = problem(413, "The body is too large.")
OTHER_TYPE: Final = problem(415, "The body must be application/json.")
FAILED: Final = problem(500, "The request failed; the log says where.")
UNAVAILABLE: Final = problem(
    503, "The database or Kafka did not answer.", ("Retry-After", "Seconds until then.")
)
SERVER_ERRORS: Final = (FAILED, UNAVAILABLE)
READ_ERRORS: Final = (NO_KEY, FORBIDDEN, *SERVER_ERRORS)
ACTION_ERRORS: Final = (BAD, NO_KEY, FORBIDDEN, NOT_FOUND, TOO_LARGE, OTHER_TYPE, *SERVER_ERRORS)
ACCEPTED: Final = Answer(202, "Accepted; href has the outcome once there is one.", answers.ReceiptWithAddress)
OPTIONAL_REASON: Final = Body({JSON: OptionalReason}, required=False)


def read_operation(
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
    responses = (Answer(200, "", model), *more, *READ_ERRORS)
    return Operation(
        "get", path, name, text, tag, responses, parameters=parameters, query=query, details=details
    )


def action_operation(path: str, name: str, text: str, body: Body, of: Parameter, *more: Answer) -> Operation:
    tag = "orders" if of is ORDER else "parked"
    return Operation(
        "post",
        path,
        name,
        text,
        tag,
        (ACCEPTED, *ACTION_ERRORS, *more),
        parameters=(of, *ACTION_HEADERS),
        body=body,
    )


def contract_operation(
    path: str, name: str, text: str, *responses: Answer, parameters: tuple[Parameter, ...] = ()
) -> Operation:
    return Operation(
        "get", path, name, text, "contracts", (*responses, NO_KEY, FORBIDDEN, FAILED), parameters=parameters
    )
