"""From a verb to what is written on the resource. Pure: what cannot be asked now is a RefusedError that says why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from knrollout.api import names
from knrollout.api.requests import FULL, of_attempt, passing
from knrollout.cluster.reader import status_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from knrollout.api.objects import Document
    from knrollout.api.status import Status


class RefusedError(Exception):
    """There is nothing that the verb could do; the text says what to do instead."""


@dataclass(frozen=True)
class Ask:
    """words: what will happen. None takes an annotation away; paused None leaves spec.paused as it is."""

    words: str
    annotations: Mapping[str, str | None] = field(default_factory=dict)
    paused: bool | None = None

    @property
    def empty(self) -> bool:
        return not self.annotations and self.paused is None


def promote(document: Document, *, full: bool) -> Ask:
    status = status_of(document)
    if _edited(status):
        return Ask("the hand edit is written over", {names.TAKE_OVER_ANNOTATION: str(status.serial)})
    if status.aborted is not None:
        raise RefusedError(f"{status.canary_revision} is aborted: retry it, or release another revision")
    if not status.active:
        raise RefusedError(f"{status.stable_revision} serves everything: there is nothing to promote")
    resumed = False if document["spec"].get("paused") else None
    if full:
        token = passing(status.canary_revision, status.attempt, FULL)
        return Ask(
            f"{status.canary_revision} is promoted in full", {names.PROMOTE_ANNOTATION: token}, resumed
        )
    if status.reason == "UserPaused":
        return Ask(f"{status.canary_revision} goes on", {}, resumed)
    token = passing(status.canary_revision, status.attempt, status.current_step_index)
    words = f"{status.canary_revision} passes step {status.current_step_index + 1}"
    return Ask(words, {names.PROMOTE_ANNOTATION: token}, resumed)


def abort(document: Document) -> Ask:
    status = status_of(document)
    if status.aborted is not None:
        return Ask(f"{status.canary_revision} is aborted already")
    if not status.active:
        raise RefusedError(
            f"{status.stable_revision} serves everything: undo goes back to an earlier revision"
        )
    token = of_attempt(status.canary_revision, status.attempt)
    return Ask(f"everything goes back to {status.stable_revision}", {names.ABORT_ANNOTATION: token})


def retry(document: Document) -> Ask:
    """An aborted attempt begins anew; an analysis that said nothing is measured again."""
    status = status_of(document)
    if status.aborted is not None:
        token = of_attempt(status.canary_revision, status.attempt)
        annotations: dict[str, str | None] = {names.RETRY_ANNOTATION: token}
        undone = (document["metadata"].get("annotations") or {}).get(names.UNDO_ANNOTATION, "")
        if undone and not undone.startswith(f"{status.canary_revision}/"):
            annotations[names.UNDO_ANNOTATION] = None
        return Ask(f"{status.canary_revision} is tried again from the first step", annotations)
    for run in (status.background_run, status.step_run):
        if run is not None and status.phase == "Paused" and run.name in status.message:
            return Ask(f"{run.name} is measured again", {names.RERUN_ANNOTATION: run.name})
    raise RefusedError("nothing is aborted, and no analysis waits to be measured again")


def undo(document: Document, to: str | None, latest: str | None, existing: Collection[str]) -> Ask:
    """latest is the Service's latest created revision: the undo holds until a newer one comes."""
    status = status_of(document)
    target = to or _before(status)
    if target is None:
        raise RefusedError("the history knows no earlier stable revision; name one with --to-revision")
    if target not in existing:
        raise RefusedError(f"there is no revision {target}")
    if latest is None:
        raise RefusedError("the Service has made no revision yet")
    if target == status.canary_revision:
        if status.aborted is not None:
            raise RefusedError(f"{target} is aborted: retry it")
        return Ask(f"{target} is what serves or is on its way already")
    return Ask(f"back to {target}", {names.UNDO_ANNOTATION: f"{target}/{latest}"})


def pause(document: Document) -> Ask:
    if document["spec"].get("paused"):
        return Ask("it is paused already")
    return Ask("it stays at its step until it is promoted", {}, paused=True)


def _before(status: Status) -> str | None:
    if status.active:
        return status.stable_revision
    good = [entry.revision for entry in status.history if entry.outcome in {"Adopted", "Promoted"}]
    return next((revision for revision in reversed(good) if revision != status.stable_revision), None)


def _edited(status: Status) -> bool:
    return any(c.type == "TrafficAsWritten" and c.status == "False" for c in status.conditions)
