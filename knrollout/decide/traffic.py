"""Traffic of a Service: what a split means, what of it is ours, and whether somebody else changed it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from knrollout.api import names
from knrollout.api.objects import Target
from knrollout.api.status import ALL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from knrollout.api.objects import Service
    from knrollout.api.status import Split, Status

PINNED_AND_CANARY: Final = 2


def targets(split: Split) -> tuple[Target, ...]:
    """The entries of a split, each revision by its name; they sum to 100."""
    entries = [Target(split.stable, ALL - split.weight)]
    if split.canary is not None:
        entries.append(Target(split.canary, split.weight, names.CANARY_TAG))
    if split.previous is not None:
        entries.append(Target(split.previous, 0, names.PREVIOUS_TAG))
    return tuple(entries)


def foreign(traffic: Iterable[Target]) -> tuple[Target, ...]:
    """Addresses that others gave to revisions: a tag that is not ours, and no share of the traffic."""
    return tuple(
        entry for entry in traffic if entry.tag not in {None, *names.OWN_TAGS} and entry.percent == 0
    )


def managed(traffic: Iterable[Target]) -> frozenset[Target]:
    """What is left of the traffic without foreign tags; an untagged share of nothing says nothing."""
    entries = tuple(traffic)
    kept = set(entries) - set(foreign(entries))
    return frozenset(entry for entry in kept if entry.tag is not None or entry.percent > 0)


def is_written(service: Service, split: Split) -> bool:
    return managed(service.traffic) == managed(targets(split))


def is_edited(service: Service, status: Status) -> bool:
    """Somebody else wrote the traffic: it is none of the splits that this rollout may have written."""
    if status.pending and status.pending[-1].over:
        return False
    known = [*status.pending, *([status.applied] if status.applied else [])]
    return not any(is_written(service, split) for split in known)


def feeds(service: Service, revision: str) -> bool:
    """The revision gets, or may get, a share."""
    shares = [entry for entry in service.traffic if entry.percent > 0]
    return any(entry.revision in {revision, None} for entry in shares)


def sole(service: Service) -> str | None:
    """The revision that serves everything, or that stands as stable in a split of our own shape."""
    shares = [entry for entry in service.actual if entry.percent > 0 and entry.revision is not None]
    if len(shares) == 1 and shares[0].percent == ALL:
        return shares[0].revision
    plain = [entry for entry in shares if entry.tag is None]
    ours = [entry for entry in shares if entry.tag == names.CANARY_TAG]
    if len(shares) == PINNED_AND_CANARY and len(plain) == len(ours) == 1:
        return plain[0].revision
    return None


def own_tags_taken(service: Service) -> bool:
    """Before the first split: `canary` or `previous` is in use and the split is not of our shape."""
    tagged = [entry for entry in service.traffic if entry.tag in names.OWN_TAGS]
    return bool(tagged) and service.split is None


def mark(rollout: str, split: Split) -> str:
    """What SPLIT_ANNOTATION says once this split is written.

    It makes every decision change the Service, also one that leaves the shares as they
    are: so a controller that fell asleep before a write finds another resourceVersion.
    """
    return f"{rollout}/{split.serial}"
