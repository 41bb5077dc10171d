"""The AnalysisRuns of a release in progress: their names, and whether they let the release go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from knrollout.api.status import RunStatus
from knrollout.decide.analysis import NotPossibleError, run_manifest
from knrollout.decide.decision import Decision, abort, paused
from knrollout.decide.run_verdict import RunVerdict, judge

if TYPE_CHECKING:
    from knrollout.api.status import PauseReason, Status
    from knrollout.decide.snapshot import Snapshot

_PAUSE_REASONS: Final[dict[RunVerdict, PauseReason]] = {
    RunVerdict.ERROR: "AnalysisRunError",
    RunVerdict.INCONCLUSIVE: "InconclusiveAnalysisRun",
    RunVerdict.NOTHING_MEASURED: "NothingMeasured",
    RunVerdict.NOT_STARTED: "NothingMeasured",
}
_EXPLANATIONS: Final = {
    RunVerdict.ERROR: "could not be measured",
    RunVerdict.INCONCLUSIVE: "is inconclusive",
    RunVerdict.NOTHING_MEASURED: "ended without a measurement that counts",
    RunVerdict.NOT_STARTED: "has not started; is the analysis controller there?",
}


def new_background_run(snapshot: Snapshot, status: Status, number: int) -> RunStatus:
    return RunStatus(name=_run_name(snapshot, status, "background", number), number=number)


def new_step_run(snapshot: Snapshot, status: Status, number: int) -> RunStatus:
    step = f"step{status.current_step_index}"
    return RunStatus(name=_run_name(snapshot, status, step, number), number=number)


def _run_name(snapshot: Snapshot, status: Status, purpose: str, number: int) -> str:
    """The same for every controller, so that two controllers create one run.

    The uid tells it from the runs of an earlier rollout with the same name.
    """
    rollout = snapshot.rollout
    return f"{rollout.name}-{rollout.uid[:8]}-{status.attempt}-{purpose}-{number}"


def with_run_phases(snapshot: Snapshot, status: Status) -> Status:
    """Records the observed phases. A deleted run has no phase, because it is created again."""
    return status.replace(
        step_run=_with_phase(snapshot, status.step_run),
        background_run=_with_phase(snapshot, status.background_run),
    )


def _with_phase(snapshot: Snapshot, run_status: RunStatus | None) -> RunStatus | None:
    if run_status is None:
        return None
    run = snapshot.runs.get(run_status.name)
    return run_status.replace(phase=run.phase if run else "", message=run.message if run else "")


def verdict_of(snapshot: Snapshot, run: RunStatus) -> RunVerdict:
    return judge(snapshot.runs.get(run.name), snapshot.now, snapshot.progress_deadline)


def explanation(snapshot: Snapshot, run: RunStatus) -> str:
    """Why a run ended as it did: Argo's message, and what the measurements say."""
    found = snapshot.runs.get(run.name)
    return "; ".join(text for text in (run.message, found.sentences if found else "") if text)


def is_withheld(snapshot: Snapshot, status: Status) -> bool:
    """An inconclusive analysis shows a first sign of harm: until a person decides, the canary gets no traffic."""
    return any(
        run is not None
        and verdict_of(snapshot, run) is RunVerdict.INCONCLUSIVE
        and (found := snapshot.runs.get(run.name)) is not None
        and found.shows_harm
        and not _is_decided(snapshot, status, run)
        for run in (status.step_run, status.background_run)
    )


def _is_decided(snapshot: Snapshot, status: Status, run: RunStatus) -> bool:
    """A person promotes past the present step, or has the run repeated."""
    requests, step = snapshot.requests, status.current_step_index
    return requests.promotes_step(status.canary_revision, status.attempt, step) or requests.rerun == run.name


def pause_for(verdict: RunVerdict, snapshot: Snapshot, status: Status, run: RunStatus) -> Decision:
    """Or the abort that the spec asks for."""
    why = explanation(snapshot, run)
    message = f"{run.name} {_EXPLANATIONS[verdict]}" + (f": {why}" if why else "")
    inconclusive = verdict is RunVerdict.INCONCLUSIVE
    if inconclusive and snapshot.rollout.canary.on_inconclusive == "abort":
        return abort(snapshot, status, _PAUSE_REASONS[verdict], message)
    if inconclusive and is_withheld(snapshot, status):
        message += ". This is a first sign of harm, so the canary's share is 0"
    if verdict.has_no_result:
        message += ". retry measures again, promote goes on, abort ends the release"
    return paused(snapshot, status, _PAUSE_REASONS[verdict], message)


def gate_background_run(snapshot: Snapshot, status: Status) -> tuple[Status, Decision | None]:
    """Starts the background analysis at its step. Pauses the release if the run has no result.

    Promoting past the step, or requesting a rerun, starts another run.
    """
    analysis = snapshot.rollout.canary.analysis
    if analysis is None or status.current_step_index < analysis.starting_step:
        return status, None
    run = status.background_run
    if run is None:
        return status.replace(background_run=new_background_run(snapshot, status, 1)), None
    verdict = verdict_of(snapshot, run)
    if verdict not in _PAUSE_REASONS:
        return status, None
    if verdict.has_no_result and _is_decided(snapshot, status, run):
        return status.replace(background_run=new_background_run(snapshot, status, run.number + 1)), None
    return status, pause_for(verdict, snapshot, status, run)


def background_has_measured(snapshot: Snapshot, status: Status) -> bool:
    """True also without a background analysis."""
    if snapshot.rollout.canary.analysis is None:
        return True
    run = snapshot.runs.get(status.background_run.name) if status.background_run else None
    return run is not None and run.measured and not run.terminated and run.phase in {"Running", "Successful"}


def analysis_fault(snapshot: Snapshot, status: Status) -> str | None:
    """Why an AnalysisRun of the release cannot be made; None if all can. A moment of the status that is still to come
    is no reason."""
    status = status.replace(
        canary_started_at=status.canary_started_at or snapshot.now,
        weight_changed_at=status.weight_changed_at or snapshot.now,
    )
    try:
        for analysis in snapshot.rollout.canary.analyses():
            run_manifest("any", analysis, snapshot.templates, snapshot.subject(status))
    except NotPossibleError as error:
        return str(error)
    return None
