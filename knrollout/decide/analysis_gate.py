"""The analysis of a release on its way: which runs belong to it, and what they say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from knrollout.api.status import RunStatus
from knrollout.decide.analysis import NotPossibleError, Verdict, judge, manifest
from knrollout.decide.decision import Decision, paused

if TYPE_CHECKING:
    from knrollout.api.status import PauseReason, Status
    from knrollout.decide.snapshot import View

_REASONS: Final[dict[Verdict, PauseReason]] = {
    Verdict.ERROR: "AnalysisRunError",
    Verdict.INCONCLUSIVE: "InconclusiveAnalysisRun",
    Verdict.NOTHING_MEASURED: "NothingMeasured",
    Verdict.NOT_STARTED: "NothingMeasured",
}
_WORDS: Final = {
    Verdict.ERROR: "could not be measured",
    Verdict.INCONCLUSIVE: "is inconclusive",
    Verdict.NOTHING_MEASURED: "ended without a measurement that counts",
    Verdict.NOT_STARTED: "has not started; is the analysis controller there?",
}


def run_name(view: View, status: Status, what: str, number: int) -> str:
    """Decided before the run exists, so that two controllers make one run. The uid keeps namesakes apart."""
    rollout = view.rollout
    return f"{rollout.name}-{rollout.uid[:8]}-{status.attempt}-{what}-{number}"


def background_run(view: View, status: Status, number: int = 1) -> RunStatus:
    return RunStatus(name=run_name(view, status, "background", number), number=number)


def step_run(view: View, status: Status, number: int = 1) -> RunStatus:
    step = f"step{status.current_step_index}"
    return RunStatus(name=run_name(view, status, step, number), number=number)


def with_phases(view: View, status: Status) -> Status:
    """What is seen of the runs is remembered. A run that is gone is made anew, so it has no phase."""
    return status.but(
        step_run=_seen(view, status.step_run), background_run=_seen(view, status.background_run)
    )


def _seen(view: View, run: RunStatus | None) -> RunStatus | None:
    if run is None:
        return None
    found = view.runs.get(run.name)
    return run.but(phase=found.phase if found else "", message=found.message if found else "")


def verdict(view: View, run: RunStatus) -> Verdict:
    return judge(view.runs.get(run.name), view.now, view.patience)


def held(view: View, status: Status, run: RunStatus, found: Verdict) -> Decision:
    message = f"{run.name} {_WORDS[found]}" + (f": {run.message}" if run.message else "")
    return paused(view, status, _REASONS[found], message)


def background(view: View, status: Status) -> tuple[Status, Decision | None]:
    """Begins the background analysis when its time has come; a run that is of no use holds the release.

    Promoting past the step, or asking for a rerun, begins a new run.
    """
    analysis = view.rollout.canary.analysis
    if analysis is None or status.current_step_index < analysis.starting_step:
        return status, None
    run = status.background_run
    if run is None:
        return status.but(background_run=background_run(view, status)), None
    found = verdict(view, run)
    if found not in _REASONS:
        return status, None
    passed = view.requests.passes(status.canary_revision, status.attempt, status.current_step_index)
    if found.held and (passed or view.requests.rerun == run.name):
        return status.but(background_run=background_run(view, status, run.number + 1)), None
    return status, held(view, status, run, found)


def has_measured(view: View, status: Status) -> bool:
    """The background analysis, if there is one, found something good and nothing to say against it."""
    if view.rollout.canary.analysis is None:
        return True
    run = view.runs.get(status.background_run.name) if status.background_run else None
    return run is not None and run.measured and not run.terminated and run.phase in {"Running", "Successful"}


def possible(view: View, status: Status) -> str | None:
    """What keeps an analysis of the release from being made; None if nothing does."""
    try:
        for analysis in view.analyses():
            manifest("any", analysis, view.templates, view.subject(status))
    except NotPossibleError as fault:
        return str(fault)
    return None
