"""Every environment variable of the controller."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict

Text = Annotated[str, StringConstraints(min_length=1)]


class ControllerSettings(BaseSettings):
    """pod_name and pod_namespace come from the downward API: they name the holder of the Lease and its place."""

    model_config = SettingsConfigDict(frozen=True)

    pod_name: Text
    pod_namespace: Text
    watch_namespace: Text | None = None
    """Leads only the rollouts of this namespace; else those of all."""
    lease_name: Text = "knrollout"
    metrics_port: Annotated[int, Field(ge=1, le=65535)] = 9090
    health_port: Annotated[int, Field(ge=1, le=65535)] = 8080
    # Also where no watch said anything: a lost event costs so much time at most.
    resync_seconds: Annotated[float, Field(gt=0)] = 30.0
