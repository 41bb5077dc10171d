"""What `status()` reports; the control endpoint sends the same as JSON."""

from __future__ import annotations

from pydantic import BaseModel


class InstanceStatus(BaseModel):
    """One process. `rss` is bytes, its children's included; `start_seconds` until ready."""

    pid: int
    port: int
    phase: str
    in_flight: int
    rss: int
    start_seconds: float


class RevisionStatus(BaseModel):
    """One revision. Counts are since the sandbox started; `problem` is empty while all is well."""

    name: str
    percent: int
    tags: list[str]
    ready: bool
    problem: str
    in_flight: int
    queued: int
    requests: int
    codes: dict[str, int]
    cold_starts: int
    instances: list[InstanceStatus]
    log: str


class ServiceStatus(BaseModel):
    """One Service and the name it is reached by."""

    name: str
    host: str
    revisions: list[RevisionStatus]
