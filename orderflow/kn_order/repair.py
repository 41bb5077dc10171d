"""`kn order repair`: undoes what a revision did where it can be undone, and lists the rest by order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from orderflow.kn_order.client import path_of
from orderflow.kn_order.errors import OperatorError
from orderflow.kn_order.output import (
    Output,
    event_kind,
    plain,
    reason_text,
    state,
    table,
    write_json,
    write_names,
)
from orderflow.kn_order.session import UNDER_WAY, confirm, outcome_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console

    from orderflow.kn_order.session import Session

Json = dict[str, Any]

_WAYS: Final = {
    "replayed": "replay as it is",
    "validated_anew": "validate anew from the inbox",
    "announced_anew": "announce anew from the history",
}
_BY_VERDICT: Final = {
    "accepted": "should it be rejected: `kn order cancel`",
    "rejected": "should it be accepted: ask the customer to order again",
    "held": "should it not be held: `kn order release`",
}


def run(
    session: Session,
    body: Json,
    hours: int,
    output: Output,
    *,
    dry_run: bool,
    yes: bool,
    wait: bool,
    timeout: float,
) -> None:
    """body: the request without `dry_run`. Raises OperatorError where an action did not take effect."""
    if dry_run or not yes:
        plans = list(_requests(session, body | {"dry_run": True}))
        marked = _marked_orders(session, body["revision"], hours)
        _show(
            session,
            session.out if dry_run else session.err,
            plans,
            marked,
            output if dry_run else Output.TABLE,
        )
        count = sum(len(plan["taken"]) for plan in plans)
        if dry_run or not count:
            return
        confirm(f"Send {count} again?")
    results = [
        result | {"outcomes": _outcomes(session, result, wait=wait, timeout=timeout)}
        for result in _requests(session, body)
    ]
    marked = _marked_orders(session, body["revision"], hours)
    _show(session, session.out, results, marked, output)
    _fail_unless_done(results, waited=wait, timeout=timeout)


def _requests(session: Session, body: Json) -> Iterator[Json]:
    """One request after the other, each for the orders behind those of the last."""
    result: Json = {"after": body.get("after")}
    while True:
        result = session.client.post(
            path_of("repairs"), body | ({"after": result["after"]} if result["after"] else {})
        )
        yield result
        if result["after"] is None:
            return


def _outcomes(session: Session, result: Json, *, wait: bool, timeout: float) -> list[Json]:
    if not wait or not result["taken"]:
        return []
    with session.err.status("waiting for the outcome ..."):
        return session.client.outcomes(result, timeout)


def _marked_orders(session: Session, revision: str, hours: int) -> list[Json]:
    orders: list[Json] = []
    after = None
    while True:
        page = session.client.get(path_of("repairs", "orders"), revision=revision, hours=hours, after=after)
        orders += page["orders"]
        after = page["after"]
        if after is None:
            return [order | {"todo": _todo(order)} for order in orders]


def _todo(order: Json) -> str:
    todo = [_BY_VERDICT[order["verdict"]]] if order["verdict"] in _BY_VERDICT else []
    if order["changes"] or order["refused"]:
        todo.append("compare `kn order history` with the shop's books")
    if order["notifications"]:
        todo.append("what was sent cannot be called back: write to the customer if it was wrong")
    return "; ".join(todo)


def _show(
    session: Session, console: Console, results: list[Json], marked: list[Json], output: Output
) -> None:
    if output is Output.JSON:
        write_json(
            {
                "revision": results[0]["revision"],
                "warnings": results[0]["warnings"],
                "taken": [step for result in results for step in result["taken"]],
                "left": [skipped for result in results for skipped in result["left"]],
                "outcomes": [action for result in results for action in result.get("outcomes", [])],
                "orders": marked,
            }
        )
        return
    for warning in results[0]["warnings"]:
        session.err.print(plain(warning), style="yellow", soft_wrap=True)
    if output is Output.NAME:
        write_names(step["parked_id"] for result in results for step in result["taken"])
        return
    _show_steps(console, results)
    if marked:
        console.print("\nnot undone: what the revision left on orders", style="bold")
        columns = ("ORDER", "STATUS", "VERDICT", "CHANGED", "REFUSED", "SENT", "WHAT TO DO")
        console.print(table(columns, map(_marked_row, marked), fixed=columns[1:6]))


def _show_steps(console: Console, results: list[Json]) -> None:
    rows = list(_step_rows(results))
    if not rows:
        console.print("no open parked event is the revision's")
        return
    columns = ("ORDER", "EVENT", "STAGE", "WHAT", "OUTCOME")
    console.print(table(columns, rows, fixed=("EVENT", "STAGE")))


def _step_rows(results: Iterable[Json]) -> Iterator[tuple[Any, ...]]:
    for result in results:
        by_id = {action["id"]: action for action in result.get("outcomes", [])}
        for step in result["taken"]:
            outcome, why = ("", "")
            if "outcomes" in result:
                action = by_id.get(step["id"])
                outcome, why = outcome_of(action) if action else (UNDER_WAY, "")
            cell = state(outcome) if not why else plain(f"{outcome}: {why}")
            yield step["order_id"], event_kind(step["event_type"]), step["stage"], _WAYS[step["way"]], cell
        for skipped in result["left"]:
            yield skipped["order_id"], "", "", f"not: {reason_text(skipped['reason'])}", skipped["parked_id"]


def _marked_row(order: Json) -> tuple[str, ...]:
    counts = (str(order[name] or "-") for name in ("changes", "refused", "notifications"))
    return (order["order_id"], order["status"] or "-", order["verdict"] or "-", *counts, order["todo"])


def _fail_unless_done(results: list[Json], *, waited: bool, timeout: float) -> None:
    left = sum(len(result["left"]) for result in results)
    if left:
        raise OperatorError(f"{left} of them need a person: do what the table says")
    if not waited:
        return
    for result in results:
        outcomes = [outcome_of(action)[0] for action in result["outcomes"]]
        again = sum(outcome in {"refused", "parked"} for outcome in outcomes)
        if again:
            raise OperatorError(f"{again} had no effect: the table says why")
        if len(outcomes) < len(result["taken"]) or UNDER_WAY in outcomes:
            text = f"no outcome within {timeout:g} s; repeat the command to see what is left"
            raise OperatorError(f"it is under way: {text}")
