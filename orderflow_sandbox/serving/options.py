"""The settings of Serving."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class ServingOptions:
    """Folders, ports, and limits on what Serving takes of this machine.

    `environ` holds what an image would set (PATH, locale): as in a container, a process inherits nothing else of the
    caller's environment. `overrides` win over the manifest's env and ConfigMaps. `time_scale` stretches every duration
    of the autoscaler (0.05 makes 300 ms of a window of 6 s), but never `timeoutSeconds`. `log_bound` is in bytes of a
    log file, `body_bound` in bytes of a request.
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
