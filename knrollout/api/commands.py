"""What an operator can do with a rollout: each command becomes annotations of the resource, see requests.py.

`kn rollout` and query's console use the same commands. The functions are pure; where a command has nothing to do they
raise RefusedError.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from knrollout.api import names
from knrollout.api.requests import all_steps_token, attempt_token, step_token
from knrollout.api.rollout import parse_status
from knrollout.api.visible_status import is_paused_at_rest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from knrollout.api.objects import Document
    from knrollout.api.status import Status


class RefusedError(Exception):
    """The command has nothing to do; the text says what to do instead."""


@dataclass(frozen=True)
class Command:
    """A patch of the rollout. description: what it will do.

    An annotation that is None is removed. paused is the new spec.paused; None leaves it unchanged.
    """

    description: str
    annotations: Mapping[str, str | None] = field(default_factory=dict)
    paused: bool | None = None

    @property
    def changes_nothing(self) -> bool:
        return not self.annotations and self.paused is None


def promote(document: Document, *, full: bool) -> Command:
    status = parse_status(document)
    if _traffic_edited(status):
        return Command("the manual edit is written over", {names.TAKE_OVER_ANNOTATION: str(status.serial)})
    if is_paused_at_rest(document, status):
        return Command("the next release is not paused any more", {}, paused=False)
    if status.aborted is not None:
        raise RefusedError(f"{status.canary_revision} is aborted: retry it, or release another revision")
    if not status.active:
        raise RefusedError(f"{_at_rest(status)}: there is nothing to promote")
    paused = False if document["spec"].get("paused") else None
    if full:
        token = all_steps_token(status.canary_revision, status.attempt)
        description = f"{status.canary_revision} is promoted in full"
        return Command(description, {names.PROMOTE_ANNOTATION: token}, paused)
    if status.reason == "UserPaused":
        return Command(f"{status.canary_revision} goes on", {}, paused)
    token = step_token(status.canary_revision, status.attempt, status.current_step_index)
    description = f"{status.canary_revision} passes {_step(document, status)}"
    return Command(description, {names.PROMOTE_ANNOTATION: token}, paused)


def abort(document: Document) -> Command:
    status = parse_status(document)
    if status.aborted is not None:
        return Command(f"{status.canary_revision} is aborted already")
    if not status.active:
        raise RefusedError(f"{_at_rest(status)}: undo goes back to an earlier revision")
    token = attempt_token(status.canary_revision, status.attempt)
    return Command(f"all traffic goes back to {status.stable_revision}", {names.ABORT_ANNOTATION: token})


def retry(document: Document) -> Command:
    """Restarts an aborted attempt, or an analysis that ended without a result."""
    status = parse_status(document)
    if status.aborted is not None:
        token = attempt_token(status.canary_revision, status.attempt)
        annotations: dict[str, str | None] = {names.RETRY_ANNOTATION: token}
        undo_token = (document["metadata"].get("annotations") or {}).get(names.UNDO_ANNOTATION, "")
        if undo_token and not undo_token.startswith(f"{status.canary_revision}/"):
            annotations[names.UNDO_ANNOTATION] = None
        description = f"{status.canary_revision} is tried again from the first step"
        return Command(description + _held(document), annotations)
    for run in (status.background_run, status.step_run):
        if run is not None and status.phase == "Paused" and run.name in status.message:
            return Command(f"{run.name} is measured again", {names.RERUN_ANNOTATION: run.name})
    raise RefusedError("no release is aborted, and no analysis waits to be measured again")


def undo(
    document: Document, to_revision: str | None, latest_revision: str | None, revisions: Collection[str]
) -> Command:
    """latest_revision: the Service's latest created one. The undo holds until a newer one is created."""
    status = parse_status(document)
    target = to_revision or _previous_stable(status)
    if target is None:
        raise RefusedError("the history has no earlier stable revision; name one with --to-revision")
    if target not in revisions:
        raise RefusedError(f"there is no revision {target}")
    if latest_revision is None:
        raise RefusedError("the Service has no revision yet")
    if target == status.canary_revision:
        if status.aborted is not None:
            raise RefusedError(f"{target} is aborted: retry it")
        return Command(f"{target} is stable or is being released already")
    return Command(
        f"back to {target}{_held(document)}", {names.UNDO_ANNOTATION: f"{target}/{latest_revision}"}
    )


def pause(document: Document) -> Command:
    """Refused where no release is in progress: it would hold the next one, and an urgent undo, at 0 %."""
    status = parse_status(document)
    if is_paused_at_rest(document, status):
        raise RefusedError(
            "no release is in progress, and the next one is paused already: promote ends the pause"
        )
    if status.aborted is not None:
        raise RefusedError(f"{status.canary_revision} is aborted: there is no release to pause")
    if not status.active:
        raise RefusedError(f"{_at_rest(status)}: there is no release to pause")
    if document["spec"].get("paused"):
        return Command("the release is paused already: promote lets it go on")
    return Command("the release stays at its step until it is promoted", {}, paused=True)


COMMANDS: Final[Mapping[str, Callable[[Document], Command]]] = {
    "promote": lambda document: promote(document, full=False),
    "promote-full": lambda document: promote(document, full=True),
    "pause": pause,
    "retry": retry,
    "abort": abort,
}
"""Commands that need the rollout alone. undo also needs the revisions of the Service."""


def available_commands(document: Document) -> dict[str, Command]:
    """By verb, those that would change something now."""
    available: dict[str, Command] = {}
    for verb, command_for in COMMANDS.items():
        try:
            command = command_for(document)
        except RefusedError:
            continue
        if not command.changes_nothing and command not in available.values():
            available[verb] = command
    return available


def _at_rest(status: Status) -> str:
    if status.stable_revision is None:
        return "the controller has not adopted the Service yet"
    return f"{status.stable_revision} serves all traffic"


def _step(document: Document, status: Status) -> str:
    """`step 2/5`, as `kn rollout get` counts them."""
    steps = document["spec"].get("strategy", {}).get("canary", {}).get("steps", ())
    number = status.step_number(len(steps))
    return f"step {number}/{len(steps)}" if status.current_step_index < len(steps) else "the end of its steps"


def _held(document: Document) -> str:
    return "; it is paused by hand until it is promoted" if document["spec"].get("paused") else ""


def _previous_stable(status: Status) -> str | None:
    if status.active:
        return status.stable_revision
    stable = [entry.revision for entry in status.history if entry.outcome in {"Adopted", "Promoted"}]
    return next((revision for revision in reversed(stable) if revision != status.stable_revision), None)


def _traffic_edited(status: Status) -> bool:
    return any(c.type == "TrafficAsWritten" and c.status == "False" for c in status.conditions)
