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

from knrollout.observed import Revision, Run, Service
from knrollout.reading import service_name, status_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    from knrollout.cluster import Cluster
    from knrollout.observed import Document
    from knrollout.status import RunStatus, Status

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
            _step(document, status),
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
    status, metadata = status_of(document), document["metadata"]
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(document, status):
        facts.add_row(name, value)
    tree = Tree(Text(f"{metadata['namespace']}/{metadata['name']}", style="bold"))
    found = cluster.service(metadata["namespace"], service_name(document) or "")
    service = Service.read(found) if found is not None else None
    revisions = [
        Revision.read(r) for r in cluster.revisions(metadata["namespace"], service_name(document) or "")
    ]
    runs = [Run.read(run) for run in cluster.runs(metadata["namespace"], metadata["name"])]
    for revision in sorted(revisions, key=lambda revision: -revision.generation):
        _branch(tree, revision, service, status, runs)
    return Group(facts, Text(), tree)


def _facts(document: Document, status: Status) -> Iterable[tuple[str, Text | str]]:
    yield "Status", _phase(status)
    yield "Why", status.message or status.reason
    yield "Service", service_name(document) or ""
    yield "Step", _step(document, status)
    yield "Weight", f"{status.weight} %"
    if status.canary_address:
        yield "Canary at", status.canary_address


def _branch(
    tree: Tree, revision: Revision, service: Service | None, status: Status, runs: Sequence[Run]
) -> None:
    entries = [e for e in service.actual if e.revision == revision.name] if service else []
    part = _part(revision.name, status)
    tags = [entry.tag for entry in entries if entry.tag]
    if not part and not entries:
        return
    percent = sum(entry.percent for entry in entries)
    words = [
        revision.name,
        part,
        f"{percent} %",
        "ready" if revision.ready else f"not ready {revision.message}",
    ]
    branch = tree.add("  ".join(filter(None, [*words, *(f"tag {tag}" for tag in tags)])))
    if revision.name == status.canary_revision:
        for run in sorted(runs, key=lambda run: run.name):
            if run.attempt == status.attempt and status.attempt:
                _run(branch, run, [status.step_run, status.background_run])


def _run(branch: Tree, run: Run, current: Sequence[RunStatus | None]) -> None:
    now = "" if any(one and one.name == run.name for one in current) else "  over"
    leaf = branch.add(f"AnalysisRun {run.name}  {run.phase or 'not started'}{now}  {run.message}".rstrip())
    for metric in run.metrics:
        leaf.add(f"{metric.name}  {metric.successful} of {metric.measured} good  {metric.message}".rstrip())


def _part(revision: str, status: Status) -> str:
    if revision == status.stable_revision:
        return "stable"
    if revision == status.canary_revision:
        return "aborted" if status.aborted else "canary"
    return ""


def _phase(status: Status) -> Text:
    return Text(status.phase, style=COLOURS[status.phase])


def _step(document: Document, status: Status) -> str:
    steps = document["spec"].get("strategy", {}).get("canary", {}).get("steps", ())
    return f"{min(status.current_step_index, len(steps))}/{len(steps)}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
