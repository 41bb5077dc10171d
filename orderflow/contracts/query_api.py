"""Query's operations for programs. The pages for people have other addresses and are not part of the contract."""

from __future__ import annotations

from typing import Final

from orderflow.contracts import answers
from orderflow.contracts.operations import JSON, Answer, Body, Operation, Parameter, problem
from orderflow.contracts.query_parts import (
    ACCEPTED,
    ACTION_HEADERS,
    BAD,
    CONFLICT,
    DOCUMENT,
    FORBIDDEN,
    JUDGING_STAGE,
    NO_KEY,
    NOT_FOUND,
    OPTIONAL_REASON,
    ORDER,
    OTHER_TYPE,
    PARKED,
    READ_ERRORS,
    REVEAL,
    SERVER_ERRORS,
    STAGE,
    TEXT,
    TOO_LARGE,
    action_operation,
    contract_operation,
    read_operation,
)
from orderflow.query.api import metrics
from orderflow.query.api.release_shadow import ShadowQuery
from orderflow.query.api.repairs import MarkedOrdersQuery, RepairRequest
from orderflow.query.release_judgement import ReleaseQuery
from orderflow.query.requests import EventEdit, ReplayRequest, RequiredReason, WaitingExtension
from orderflow.query.store.filters import OrderFilter, ParkedFilter
from orderflow.query.store.statistics import Outcomes

OPERATIONS: Final = (
    read_operation(
        "/api/orders",
        "listOrders",
        "Orders, latest first",
        "orders",
        answers.OrdersPage,
        BAD,
        query=OrderFilter,
    ),
    read_operation(
        "/api/orders/{order_id}",
        "readOrder",
        "An order, its history and its notifications",
        "orders",
        answers.OrderDetail,
        NOT_FOUND,
        of=ORDER,
    ),
    *(
        action_operation(
            f"/api/orders/{{order_id}}/{verb}", f"{verb}Order", text, Body({JSON: RequiredReason}), ORDER
        )
        for verb, text in (
            ("hold", "Hold an order"),
            ("release", "Release a held order"),
            ("cancel", "Cancel an order"),
        )
    ),
    action_operation(
        "/api/orders/{order_id}/extend",
        "extendWaiting",
        "Let an order's waiting events wait longer",
        Body({JSON: WaitingExtension}),
        ORDER,
    ),
    read_operation(
        "/api/parked",
        "listParked",
        "Parked events, latest first",
        "parked",
        answers.ParkedPage,
        BAD,
        query=ParkedFilter,
    ),
    read_operation(
        "/api/parked/{parked_id}",
        "readParked",
        "A parked event with its content",
        "parked",
        answers.ParkedDetail,
        NOT_FOUND,
        of=PARKED,
        reveal=REVEAL,
    ),
    Operation(
        "post",
        "/api/parked/replay",
        "replayMany",
        "Replay parked events in the order in which they happened",
        "parked",
        (
            Answer(200, "With dry_run: what would be replayed.", answers.ReceiptWithAddress),
            ACCEPTED,
            BAD,
            NO_KEY,
            FORBIDDEN,
            TOO_LARGE,
            OTHER_TYPE,
            *SERVER_ERRORS,
        ),
        parameters=ACTION_HEADERS,
        body=Body({JSON: ReplayRequest}),
    ),
    action_operation(
        "/api/parked/{parked_id}/replay",
        "replayParked",
        "Replay a parked event",
        OPTIONAL_REASON,
        PARKED,
        CONFLICT,
    ),
    action_operation(
        "/api/parked/{parked_id}/edit",
        "editParked",
        "Edit a parked event and send it",
        Body({JSON: EventEdit}),
        PARKED,
        CONFLICT,
    ),
    action_operation(
        "/api/parked/{parked_id}/discard",
        "discardParked",
        "Discard a parked event",
        Body({JSON: RequiredReason}),
        PARKED,
        CONFLICT,
    ),
    Operation(
        "post",
        "/api/repairs",
        "repairRevision",
        "Send again, from where the fault was made, the parked events that a revision made or parked",
        "releases",
        (
            Answer(200, "With dry_run: what would be sent.", answers.RepairWithAddress),
            Answer(202, "Accepted; href has the outcome once there is one.", answers.RepairWithAddress),
            BAD,
            NO_KEY,
            FORBIDDEN,
            problem(409, "The revision still serves."),
            TOO_LARGE,
            OTHER_TYPE,
            *SERVER_ERRORS,
        ),
        parameters=ACTION_HEADERS,
        body=Body({JSON: RepairRequest}),
    ),
    read_operation(
        "/api/repairs/orders",
        "listRepairOrders",
        "The orders that a revision judged, changed or told of",
        "releases",
        answers.MarkedOrders,
        BAD,
        query=MarkedOrdersQuery,
    ),
    read_operation(
        "/api/actions/{request_id}",
        "readActions",
        "The outcome of a request",
        "actions",
        answers.ActionResults,
        of=Parameter("request_id", "path", TEXT, "The request in the receipt."),
    ),
    read_operation(
        "/api/rates", "readRates", "What each stage did in the last minutes", "state", answers.Rates
    ),
    read_operation("/api/outcomes", "readOutcomes", "The outcomes of all events so far", "state", Outcomes),
    Operation(
        "get",
        "/metrics",
        "readMetrics",
        "The same, for Prometheus",
        "state",
        (Answer(200, "Prometheus' text format.", media=(metrics.CONTENT_TYPE,)), *READ_ERRORS),
    ),
    read_operation(
        "/api/audits/last",
        "readLastAudit",
        "The last run of the audit",
        "audit",
        answers.AuditRun,
        NOT_FOUND,
    ),
    Operation(
        "post",
        "/api/audits",
        "runAudit",
        "Run the audit now",
        "audit",
        (
            Answer(200, "Its report.", answers.AuditReport),
            NO_KEY,
            FORBIDDEN,
            CONFLICT,
            *SERVER_ERRORS,
        ),
    ),
    read_operation(
        "/api/releases/{stage}",
        "judgeRelease",
        "Whether a stage's new revision treats orders as the stable one does",
        "releases",
        answers.ReleaseVerdict,
        BAD,
        NOT_FOUND,
        of=STAGE,
        query=ReleaseQuery,
    ),
    read_operation(
        "/api/releases/{stage}/shadow",
        "judgeReleaseByShadow",
        "Whether the stable revision would judge the new revision's events alike",
        "releases",
        answers.ShadowVerdict,
        BAD,
        NOT_FOUND,
        of=JUDGING_STAGE,
        query=ShadowQuery,
        details="With all=true, a page of the list of all events that are judged differently.",
    ),
    read_operation(
        "/api/rollouts",
        "listRollouts",
        "Releases in progress",
        "releases",
        answers.Rollouts,
        NOT_FOUND,
        details="404 where query has no cluster.",
    ),
    read_operation(
        "/api/rollouts/{name}",
        "readRollout",
        "A release, its steps and revisions",
        "releases",
        answers.RolloutDetail,
        NOT_FOUND,
        of=Parameter("name", "path", TEXT, "The KnativeRollout's name."),
        details="404 where query has no cluster.",
    ),
    contract_operation(
        "/openapi.json", "readOpenApi", "This description", Answer(200, "OpenAPI 3.1.", schema=DOCUMENT)
    ),
    contract_operation(
        "/contracts", "listContracts", "All contracts", Answer(200, "Their paths.", answers.Contracts)
    ),
    contract_operation(
        "/contracts/{path}",
        "readContract",
        "A contract: a JSON Schema, an OpenAPI or an AsyncAPI description",
        Answer(200, "The document.", schema=DOCUMENT),
        NOT_FOUND,
        parameters=(Parameter("path", "path", TEXT, "A path from the list, with its slashes."),),
    ),
)
