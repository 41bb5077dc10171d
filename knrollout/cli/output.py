"""What the commands print: tables of 100 columns, a tree, or JSON. Every state stands in words."""

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

from knrollout.cluster.reader import service_name, status_of
from knrollout.cluster.view import line, picture

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    from knrollout.api.objects import Document
    from knrollout.api.status import Status
    from knrollout.cluster.port import Cluster
    from knrollout.cluster.view import Picture, RevisionShown

WIDTH: Final = 100
COLOURS: Final = {"Healthy": "green", "Paused": "yellow", "Degraded": "red", "Progressing": "cyan"}
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


def console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)


def as_json(value: Any) -> None:  # noqa: ANN401 - whatever the API server said
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def age(moment: str | datetime | None) -> str:
    """`3m`, as kubectl says it."""
    if moment is None:
        return ""
    then = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    seconds = max(0, int((datetime.now(UTC) - then).total_seconds()))
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def rollouts(documents: Sequence[Document], *, namespaces: bool) -> Table:
    table = _table(
        *(["NAMESPACE"] if namespaces else []), "NAME", "SERVICE", "STATUS", "STEP", "WEIGHT", "CANARY", "AGE"
    )
    for document in documents:
        status, metadata = status_of(document), document["metadata"]
        where = [metadata["namespace"]] if namespaces else []
        table.add_row(
            *where,
            metadata["name"],
            service_name(document) or "",
            _phase(status),
            _step(document),
            f"{status.weight} %",
            status.canary_revision or "",
            age(metadata.get("creationTimestamp")),
        )
    return table


def history(status: Status) -> Table:
    table = _table("ATTEMPT", "REVISION", "OUTCOME", "WHY", "ENDED")
    for entry in reversed(status.history):
        table.add_row(
            str(entry.attempt), entry.revision, entry.outcome, entry.message, f"{age(entry.finished_at)} ago"
        )
    return table


def rollout(cluster: Cluster, document: Document) -> RenderableType:
    """The rollout with its revisions and their analysis runs, as a tree."""
    shown = picture(cluster, document)
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(document, shown):
        facts.add_row(name, value)
    tree = Tree(Text(f"{shown.namespace}/{shown.name}", style="bold"))
    for revision in shown.revisions:
        _branch(tree, revision)
    return Group(facts, Text(), tree)


def _facts(document: Document, shown: Picture) -> Iterable[tuple[str, Text | str]]:
    status = shown.status
    yield "Status", _phase(status)
    yield "Why", status.message or status.reason
    yield "Service", shown.service
    yield "Step", _step(document)
    yield "Weight", f"{status.weight} %"
    if status.canary_address:
        yield "Canary at", status.canary_address


def _branch(tree: Tree, revision: RevisionShown) -> None:
    words = [
        revision.name,
        revision.part,
        f"{revision.percent} %",
        "ready" if revision.ready else f"not ready {revision.message}",
    ]
    branch = tree.add("  ".join(filter(None, [*words, *(f"tag {tag}" for tag in revision.tags)])))
    for shown in revision.runs:
        run, over = shown.run, "" if shown.now else "  over"
        leaf = branch.add(f"AnalysisRun {run.name}  {shown.phase}{over}  {run.message}".rstrip())
        for metric in run.metrics:
            last = f"  last {metric.last}" if metric.last else ""
            leaf.add(
                f"{metric.name}  {metric.successful} of {metric.measured} good{last}  {metric.message}".rstrip()
            )


def _phase(status: Status) -> Text:
    return Text(status.phase, style=COLOURS[status.phase])


def _step(document: Document) -> str:
    of = line(document)
    return f"{of.step}/{of.steps}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
