"""What the sandbox tells its Serving."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class ServingOptions:
    """Where things are and how much of this machine they may have.

    `environ` stands in for what the image would set (PATH, locale): a process
    inherits nothing else of the caller's environment, as in a container.
    `overrides` wins over the manifest's env and ConfigMaps. `time_scale`
    stretches every autoscaling duration (0.05 makes a 6 s window 300 ms) but
    never `timeoutSeconds`. Byte bounds are per log file and per request body.
    """

    root: Path
    state: Path
    overrides: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    namespace: str = "orderflow"
    domain: str = "orderflow.localhost"
    ingress_port: int = 0
    control_port: int = 0
    max_processes: int = 2
    time_scale: float = 1.0
    queue_bound: int = 1000
    body_bound: int = 8 * 1024 * 1024
    log_bound: int = 8 * 1024 * 1024
    start_deadline: float = 60.0
    first_port: int = 21000
    python: Path = field(default_factory=lambda: Path(sys.executable))
