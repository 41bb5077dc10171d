"""`kn order audit`: the last run of the audit, or a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orderflow.audit import table
from orderflow.kn_order.client import path_of
from orderflow.kn_order.errors import NotFoundError, OperatorError
from orderflow.kn_order.output import Output, plain, timestamp, write_json, write_names

if TYPE_CHECKING:
    from orderflow.kn_order.session import Session

Json = dict[str, Any]


def show(session: Session, output: Output, *, run: bool) -> None:
    """Raises OperatorError unless the run's state is `complete`."""
    if run:
        with session.err.status("the audit is running ..."):
            report: Json = session.client.post(path_of("audits"), {})
        last = {"state": report["state"], "report": report}
    else:
        try:
            last = session.client.get(path_of("audits", "last"))
        except NotFoundError:
            raise OperatorError("no audit has run yet; `kn order audit --run` makes a run") from None
    if output is Output.JSON:
        write_json(last)
    elif output is Output.NAME:
        write_names([str(last["report"]["id"]) if last.get("report") else str(last["id"])])
    elif last["report"]:
        finished = timestamp(last["report"]["finished_at"])
        text = f"audit of {finished} UTC\n\n{table.table(last['report'])}"
        session.out.print(plain(text), end="", soft_wrap=True)
    if last["state"] != "complete":
        raise OperatorError(f"the state of the audit is {last['state']}{_advice(last['state'], run=run)}")


def _advice(state: str, *, run: bool) -> str:
    if state == "running":
        return "; look again when it has finished"
    return "" if run else "; `kn order audit --run` runs it again"
