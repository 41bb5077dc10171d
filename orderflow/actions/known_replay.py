"""Whether the extension `replay` of an event is ours: the operators' table has it as a replay or edit of that event."""

from __future__ import annotations

from typing import Final

IS_KNOWN: Final = """EXISTS (
    SELECT FROM operator_actions a
    WHERE a.id = e.replay AND a.kind IN ('replayed', 'edited') AND a.outcome IN ('sending', 'done')
      AND coalesce(a.detail ->> 'source', e.source) = e.source
      AND coalesce(a.detail ->> 'event_id', e.id) = e.id)"""
"""A condition on e (source, id, replay): the identity of the event as it was first sent, and the value of its
extension, which is null or empty where it has none.

Replays that an earlier release recorded have no source and id in `detail`. Those are known by their own id alone.
"""
