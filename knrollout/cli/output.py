"""What the commands print: tables that fit 100 columns, a tree, or JSON. States are words as well as colours."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from knrollout.cluster.view import summarize

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    from knrollout.api.objects import Document
    from knrollout.api.status import Status
    from knrollout.cluster.view import RevisionView, RolloutView

WIDTH: Final = 100
COLOURS: Final = {"Healthy": "green", "Paused": "yellow", "Degraded": "red", "Progressing": "cyan"}
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


class OutputFormat(StrEnum):
    TABLE = "table"
    JSON = "json"


def console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)


def print_json(value: Any) -> None:  # noqa: ANN401 - any JSON of the API server
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def rollouts_table(documents: Sequence[Document], *, with_namespace: bool) -> Table:
    table = _table(
        *(["NAMESPACE"] if with_namespace else []),
        *("NAME", "SERVICE", "STATUS", "STEP", "WEIGHT", "CANARY", "AGE"),
    )
    for document in documents:
        rollout = summarize(document)
        table.add_row(
            *([rollout.namespace] if with_namespace else []),
            rollout.name,
            rollout.service,
            _phase(rollout.status, paused_at_rest=rollout.paused_at_rest),
            _step(rollout.step, rollout.steps),
            f"{rollout.status.share} %",
            _canary(rollout.status),
            _age(rollout.created),
        )
    return table


def history_table(status: Status) -> Table:
    table = _table("ATTEMPT", "REVISION", "OUTCOME", "WHY", "ENDED")
    for entry in reversed(status.history):
        table.add_row(
            str(entry.attempt), entry.revision, entry.outcome, entry.message, f"{_age(entry.finished_at)} ago"
        )
    return table


def rollout_tree(view: RolloutView) -> RenderableType:
    """The rollout's state, then its revisions with their analysis runs."""
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(view):
        facts.add_row(name, value)
    tree = Tree(Text(f"{view.namespace}/{view.name}", style="bold"))
    for revision in view.revisions:
        _add_revision(tree, revision)
    return Group(facts, Text(), tree)


def _facts(view: RolloutView) -> Iterable[tuple[str, Text | str]]:
    status = view.status
    yield "Status", _phase(status, paused_at_rest=view.paused_at_rest)
    yield "Why", status.message or status.reason
    yield "Service", view.service
    yield "Step", _step(view.step, len(view.steps))
    yield "Weight", _weight(view)
    if status.canary_address:
        yield "Canary at", status.canary_address


def _weight(view: RolloutView) -> str:
    """The canary's share and since when it has it, in one line."""
    status = view.status
    if not status.active:
        return f"{status.weight} %"
    share = f"{status.share} of {status.weight} %, withheld" if view.withheld else f"{status.share} %"
    if view.canary_started_at is None:
        return share
    changed = view.weight_changed_at
    present = f"since {_moment(changed)} ({_age(changed)})" if changed else "being moved"
    return f"{share} {present}; first share {_moment(view.canary_started_at)}"


def _add_revision(tree: Tree, revision: RevisionView) -> None:
    columns = [
        revision.name,
        revision.part,
        f"{revision.percent} %",
        "ready" if revision.ready else f"not ready {revision.message}",
        *(f"tag {tag}" for tag in revision.tags),
    ]
    branch = tree.add("  ".join(filter(None, columns)))
    for run_view in revision.runs:
        run, over = run_view.run, "" if run_view.now else "  over"
        leaf = branch.add(f"AnalysisRun {run.name}  {run_view.phase}{over}  {run.message}".rstrip())
        for metric in run.metrics:
            measured = f"{metric.successful} of {metric.measured} good"
            leaf.add("  ".join(filter(None, [metric.name, measured, metric.finding, metric.message])))


def _phase(status: Status, *, paused_at_rest: bool) -> Text:
    text = f"{status.phase}, next paused" if paused_at_rest else status.phase
    return Text(text, style=COLOURS["Paused" if paused_at_rest else status.phase])


def _canary(status: Status) -> str:
    """A dash at rest, where the revision of the latest attempt is the stable one."""
    canary = status.canary_revision
    return canary if canary is not None and canary != status.stable_revision else "-"


def _step(step: int, steps: int) -> str:
    return f"{step}/{steps}"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _age(moment: str | datetime) -> str:
    """`3m`, in the units of kubectl."""
    then = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    seconds = max(0, int((datetime.now(UTC) - then).total_seconds()))
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
