"""`kn order audit`: the last run of the audit, or one that runs now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orderflow.audit import table
from orderflow.kn_order.client import OperatorError, path_of
from orderflow.kn_order.output import Output, moment, plain, write_json, write_names

if TYPE_CHECKING:
    from orderflow.kn_order.session import Session

Json = dict[str, Any]


def show(about: Session, output: Output, *, run: bool) -> None:
    """Raises OperatorError unless the audit is complete."""
    if run:
        with about.err.status("the audit runs ..."):
            report: Json = about.client.post(path_of("audits"), {})
        last = {"state": report["state"], "report": report}
    else:
        last = about.client.get(path_of("audits", "last"))
    if output is Output.JSON:
        write_json(last)
    elif output is Output.NAME:
        write_names([str(last["report"]["id"]) if last.get("report") else str(last["id"])])
    elif last["report"]:
        ended = moment(last["report"]["finished_at"])
        about.out.print(
            plain(f"audit of {ended} UTC\n\n{table.table(last['report'])}"), end="", soft_wrap=True
        )
    if last["state"] != "complete":
        raise OperatorError(f"the audit is {last['state']}{_next(last['state'], run=run)}")


def _next(state: str, *, run: bool) -> str:
    if state == "running":
        return "; look again when it has ended"
    return "" if run else "; `kn order audit --run` looks again"
