"""The controller's environment variables."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict

Text = Annotated[str, StringConstraints(min_length=1)]


class ControllerSettings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True)

    pod_name: Text
    """From the downward API: the holder of the Lease."""
    pod_namespace: Text
    """From the downward API: the namespace of the Lease."""
    watch_namespace: Text | None = None
    """None: the rollouts of all namespaces."""
    lease_name: Text = "knrollout"
    metrics_port: Annotated[int, Field(ge=1, le=65535)] = 9090
    health_port: Annotated[int, Field(ge=1, le=65535)] = 8080
    resync_seconds: Annotated[float, Field(gt=0)] = 30.0
    """Every rollout is reconciled this often even without an event: a lost event delays it by no more than that."""
