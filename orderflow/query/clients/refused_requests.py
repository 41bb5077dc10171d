"""How many requests two revisions refused (4xx), in intervals of time, as their queue-proxies counted them.

Only what comes over HTTP from outside can be refused: at intake and query. A 4xx there is the client's fault, and both
revisions get the same clients.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from orderflow.domain.release_analysis import Count, Interval
from orderflow.query.clients import prometheus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orderflow.query.clients.prometheus import Series

STAGES: Final = frozenset({"intake", "query"})
_STEP_SECONDS: Final = 30
_MAX_STEPS: Final = 500
_ANSWERS: Final = """
sum by (kn_revision_name, job, instance, http_response_status_code) (
  http_server_request_duration_seconds_count{{http_response_status_code=~"[24].."}}
    * on (job, instance) group_left (kn_revision_name)
      max by (job, instance, kn_revision_name) (target_info{{kn_revision_name=~"{revisions}"}})
)
"""


def refused(url: str, canary: str, stable: str, since: datetime) -> list[Interval]:
    """url is the address of Prometheus. The names of the revisions are DNS labels. Raises TransientError."""
    now = datetime.now(UTC)
    step = max(_STEP_SECONDS, (now - since).total_seconds() // _MAX_STEPS)
    query = _ANSWERS.format(revisions=f"{canary}|{stable}")
    series = prometheus.over_time(url, query, since, now, step)
    counts = {revision: _grown(_of(series, revision), since, step) for revision in (canary, stable)}
    return [
        Interval(counts[canary].get(number, Count(0, 0)), counts[stable].get(number, Count(0, 0)))
        for number in sorted(counts[canary].keys() | counts[stable].keys())
    ]


def _of(series: Iterable[Series], revision: str) -> list[Series]:
    return [each for each in series if each.labels.get("kn_revision_name") == revision]


def _grown(series: Sequence[Series], since: datetime, step: float) -> dict[int, Count]:
    """By the number of the interval, what the counters of one revision's pods grew by. A counter that is younger than
    `since` was born with its first requests."""
    refused: dict[int, int] = {}
    answered: dict[int, int] = {}
    for each in series:
        is_refusal = each.labels.get("http_response_status_code", "").startswith("4")
        at_start = each.samples[0][0] - since.timestamp() < step / 2
        before = each.samples[0][1] if at_start else 0.0
        for at, value in each.samples:
            number = round((at - since.timestamp()) / step)
            more = round(value - before if value >= before else value)
            before = value
            answered[number] = answered.get(number, 0) + more
            if is_refusal:
                refused[number] = refused.get(number, 0) + more
    return {number: Count(refused.get(number, 0), total) for number, total in answered.items() if total}
