"""Traffic of a Service: which entries a split consists of, and whether somebody else edited them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from knrollout.api import names
from knrollout.api.objects import TrafficTarget
from knrollout.api.status import FULL_WEIGHT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from knrollout.api.objects import Service
    from knrollout.api.status import Split, Status

_STABLE_AND_CANARY: Final = 2


def targets(split: Split) -> tuple[TrafficTarget, ...]:
    """The entries of a split, each revision by its name. Their percentages add up to 100."""
    entries = [TrafficTarget(split.stable, FULL_WEIGHT - split.weight)]
    if split.canary is not None:
        entries.append(TrafficTarget(split.canary, split.weight, names.CANARY_TAG))
    if split.previous is not None:
        entries.append(TrafficTarget(split.previous, 0, names.PREVIOUS_TAG))
    return tuple(entries)


def foreign_tags(traffic: Iterable[TrafficTarget]) -> tuple[TrafficTarget, ...]:
    """Entries with a tag of somebody else and without traffic. The rollout preserves them."""
    return tuple(
        entry for entry in traffic if entry.tag not in {None, *names.OWN_TAGS} and entry.percent == 0
    )


def managed(traffic: Iterable[TrafficTarget]) -> frozenset[TrafficTarget]:
    """The traffic without foreign tags and without entries that have neither a tag nor traffic."""
    entries = tuple(traffic)
    own = set(entries) - set(foreign_tags(entries))
    return frozenset(entry for entry in own if entry.tag is not None or entry.percent > 0)


def is_written(service: Service, split: Split) -> bool:
    return managed(service.spec_traffic) == managed(targets(split))


def is_edited(service: Service, status: Status) -> bool:
    """The Service's traffic is none of the splits that this rollout may have written: somebody else wrote it."""
    if status.pending and status.pending[-1].over:
        return False
    own = [*status.pending, *([status.applied] if status.applied else [])]
    return not any(is_written(service, split) for split in own)


def receives_traffic(service: Service, revision: str) -> bool:
    """An entry that follows the latest revision counts too: that may be this one."""
    return any(entry.percent > 0 and entry.revision in {revision, None} for entry in service.spec_traffic)


def serving_revision(service: Service) -> str | None:
    """The revision that gets all traffic, or that is stable in a split between stable and canary."""
    shares = [entry for entry in service.status_traffic if entry.percent > 0 and entry.revision is not None]
    if len(shares) == 1 and shares[0].percent == FULL_WEIGHT:
        return shares[0].revision
    untagged = [entry for entry in shares if entry.tag is None]
    canaries = [entry for entry in shares if entry.tag == names.CANARY_TAG]
    if len(shares) == _STABLE_AND_CANARY and len(untagged) == len(canaries) == 1:
        return untagged[0].revision
    return None


def own_tags_in_use(service: Service) -> bool:
    """Somebody else uses the tag `canary` or `previous`: no rollout has written a split yet."""
    return service.split_annotation is None and any(
        entry.tag in names.OWN_TAGS for entry in service.spec_traffic
    )


def split_annotation(rollout: str, split: Split) -> str:
    """The value of SPLIT_ANNOTATION once this split is written.

    With the serial in it, every split changes the Service, even one with the same percentages. A controller that was
    suspended before its write then finds another resourceVersion and is refused.
    """
    return f"{rollout}/{split.serial}"
