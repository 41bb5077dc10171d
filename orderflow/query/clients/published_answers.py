"""Whether a revision of intake or park answered 2xx for more events than it published.

The queue-proxy's counts of answers, which Prometheus has, are compared with the records of the topic that name the
revision as their maker. Prometheus is asked first: what is answered by then is in the topic when it is read.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil, floor
from typing import TYPE_CHECKING, Any, Final

from orderflow.adapters.kafka.log import Log
from orderflow.domain.release_analysis import Invariant
from orderflow.errors import TransientError
from orderflow.messaging import topics
from orderflow.query.clients import count_process, prometheus
from orderflow.query.clients.count_process import CountRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME: Final = "answered_and_not_published"
UNKNOWN: Final = "PROMETHEUS_URL is not set: nobody sees whether answered events are in the topic"
"""Why the invariant of these stages is absent where query has no Prometheus."""
MARGIN: Final = timedelta(seconds=90)
"""How long before `since` records count. The sample before `since` is one scrape older, and a request may be answered
some seconds after its record was written."""
_COUNT_SECONDS: Final = 20.0
_MAX_STEPS: Final = 2000
_KEPT: Final = 16

_ANSWERS: Final = (
    "http_server_request_duration_seconds_count{{{selector}}}{offset} * on (job, instance) group_left"
    ' max by (job, instance) (target_info{{kn_revision_name="{revision}"}}{offset})'
)
_ANSWERED: Final = """
sum(
  max_over_time(({now})[{window}s:{step}s]) - ({before})
  or max_over_time(({now})[{window}s:{step}s])
)
"""
"""The last count of each pod, whether the pod is still there or not, without what it had counted before the window. A
pod's address may be another pod's later, so the revision is looked up at each step."""


@dataclass(frozen=True, slots=True)
class Publication:
    """Where a stage publishes, and the selector of its answers that say so. Intake answers 202 for what it published,
    and for nothing else. Park answers 204, and so does its liveness, to a GET."""

    topic: str
    selector: str


STAGES: Final = {
    "intake": Publication(topics.INBOX, 'http_response_status_code="202"'),
    "park": Publication(topics.PARKED, 'http_response_status_code="204",http_request_method="POST"'),
}
"""The stages whose effect is only in Kafka."""


@dataclass(slots=True)
class _Progress:
    """How far a topic was read for one question: the next offset by partition. complete: no record of the period can
    have been removed before it was read."""

    next: dict[int, int] = field(default_factory=dict)
    published: int = 0
    complete: bool = True


class PublishedAnswers:
    """Each look reads only what is new in the topic. No group is joined and no offset is committed."""

    def __init__(self, prometheus_url: str, config: Mapping[str, Any]) -> None:
        """config has librdkafka's properties for a client."""
        self._url = prometheus_url
        self._config = dict(config)
        self._lock = threading.Lock()
        self._progress: dict[tuple[str, str, datetime], _Progress] = {}

    def invariants(self, stage: str, canary: str, since: datetime) -> list[Invariant]:
        """Empty for a stage whose effect is not only in Kafka. canary is the name of a revision.

        Raises TransientError, with a sentence for people, where the counts cannot be compared at this moment.
        """
        if stage not in STAGES:
            return []
        publication = STAGES[stage]
        count = ceil(answered(self._url, publication, canary, since))
        with self._lock:
            progress = self._progress.setdefault((stage, canary, since), _Progress())
            for key in list(self._progress)[:-_KEPT]:
                del self._progress[key]
            if count > progress.published:
                self._read_on(progress, publication.topic, canary, since)
        missing = max(0, count - progress.published)
        if missing and not progress.complete:
            raise TransientError(f"{publication.topic} no longer has all records of the release")
        return [Invariant(NAME, missing)]

    def _read_on(self, progress: _Progress, topic: str, revision: str, since: datetime) -> None:
        log = Log(self._config)
        partitions = list(log.offset_ranges(topic))
        watermarks = log.watermarks(topic, partitions)
        ranges = log.offset_ranges(topic)
        if any(ranges[partition].end < watermarks[partition] for partition in partitions):
            raise TransientError(f"a transaction is open in {topic}; its records cannot be read yet")
        for partition, first in log.since(topic, partitions, since - MARGIN).items():
            if partition not in progress.next:
                progress.next[partition] = first
                progress.complete &= not first or first > ranges[partition].start
        unread = {p: (progress.next[p], end) for p, end in watermarks.items() if progress.next[p] < end}
        if unread:
            request = CountRequest(config=self._config, topic=topic, revision=revision, ranges=unread)
            progress.published += _count(request, time.monotonic() + _COUNT_SECONDS)
            progress.next |= {partition: end for partition, (_, end) in unread.items()}


def answered(url: str, publication: Publication, revision: str, since: datetime) -> float:
    """How many requests the revision answered since then as one that published, up to the last full second."""
    window = max(1, floor((datetime.now(UTC) - since).total_seconds()))
    values = {"selector": publication.selector, "revision": revision}
    query = _ANSWERED.format(
        now=_ANSWERS.format(**values, offset=""),
        before=_ANSWERS.format(**values, offset=f" offset {window}s"),
        window=window,
        step=max(1, window // _MAX_STEPS),
    )
    return prometheus.total(url, query, since + timedelta(seconds=window))


def _count(request: CountRequest, deadline: float) -> int:
    """The records that the revision made. A record that cannot be read is none of intake's or park's. Raises
    TransientError where Kafka does not answer, or where too many records cannot be read."""
    if (seconds := deadline - time.monotonic()) <= 0:
        raise TransientError(f"{request.topic} cannot be read in time")
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and nothing of it comes from outside
            [sys.executable, "-m", count_process.__name__],
            input=request.model_dump_json().encode(),
            capture_output=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise TransientError(f"{request.topic} cannot be read in time") from None
    if done.returncode == 0:
        return int(done.stdout)
    if done.returncode == count_process.UNAVAILABLE:
        raise TransientError(done.stdout.decode(errors="replace"))
    # One of the records ended the process: its half is halved until it stands alone.
    return sum(_count(half, deadline) for half in _halves(request))


def _halves(request: CountRequest) -> list[CountRequest]:
    """Empty where the request is for one record."""
    if len(request.ranges) > 1:
        parts = [{partition: each} for partition, each in request.ranges.items()]
    else:
        ((partition, (first, end)),) = request.ranges.items()
        middle = (first + end) // 2
        parts = [{partition: (first, middle)}, {partition: (middle, end)}] if middle > first else []
    return [request.model_copy(update={"ranges": part}) for part in parts]
