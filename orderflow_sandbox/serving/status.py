"""The models of `Serving.status`; the control endpoint sends them as JSON."""

from __future__ import annotations

from pydantic import BaseModel


class InstanceStatus(BaseModel):
    """One process. `rss` is in bytes, children included; `start_seconds` is the time until it was ready."""

    pid: int
    port: int
    phase: str
    in_flight: int
    rss: int
    start_seconds: float


class RevisionStatus(BaseModel):
    """One revision. Counts begin with the start of the sandbox; `problem` is empty while there is none."""

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
    """One Service; `host` is the name at which other Services reach it."""

    name: str
    host: str
    revisions: list[RevisionStatus]
