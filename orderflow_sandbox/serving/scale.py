"""The `autoscaling.knative.dev/` annotations of a template."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

HPA = "hpa.autoscaling.knative.dev"

_GO_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _go_duration(text: object) -> float:
    """Seconds; `1m30s` gives 90.0."""
    parts = _GO_DURATION.findall(str(text))
    if not parts or "".join(number + unit for number, unit in parts) != str(text):
        raise ValueError(f"{text!r} is not a duration such as 60s or 1m30s")
    return float(sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts))


Duration = Annotated[float, BeforeValidator(_go_duration)]


class Scale(BaseModel):
    """By the annotations' names without their prefix. Durations are in seconds."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=True,
    )

    class_: Literal["kpa.autoscaling.knative.dev", "hpa.autoscaling.knative.dev"] = Field(
        default="kpa.autoscaling.knative.dev", alias="class"
    )
    metric: Literal["concurrency", "cpu"] = "concurrency"
    target: Annotated[float, Field(ge=0.01)] | None = None
    target_utilization_percentage: Annotated[float, Field(ge=1, le=100)] = 70
    # The sandbox's proxy always does the activator's work, as with -1.
    target_burst_capacity: Annotated[float, Field(ge=-1)] = 211
    min_scale: Annotated[int, Field(ge=0)] = 0
    max_scale: Annotated[int, Field(ge=0)] = 0
    # 0 needs allow-zero-initial-scale, which is off in clusters by default.
    initial_scale: Annotated[int, Field(ge=1)] = 1
    activation_scale: Annotated[int, Field(ge=1)] = 1
    window: Annotated[Duration, Field(ge=6, le=3600)] = 60.0
    scale_down_delay: Annotated[Duration, Field(ge=0, le=3600)] = 0.0
    scale_to_zero_pod_retention_period: Annotated[Duration, Field(ge=0, le=3600)] = 0.0
    panic_window_percentage: Annotated[float, Field(ge=1, le=100)] = 10
    panic_threshold_percentage: Annotated[float, Field(ge=110, le=1000)] = 200

    @property
    def by_cpu(self) -> bool:
        """Such a Service always runs at min-scale here, since the sandbox does not measure CPU."""
        return self.class_ == HPA

    @model_validator(mode="after")
    def _fits_its_class(self) -> Self:
        metric = "cpu" if self.by_cpu else "concurrency"
        if self.metric != metric:
            raise ValueError(f"class {self.class_} goes with metric {metric} here, not {self.metric}")
        if self.by_cpu and self.min_scale < 1:
            raise ValueError(f"class {HPA} cannot go to zero: min-scale must be 1 or more")
        return self

    @model_validator(mode="after")
    def _min_below_max(self) -> Self:
        if self.max_scale and self.min_scale > self.max_scale:
            raise ValueError(f"min-scale {self.min_scale} is above max-scale {self.max_scale}")
        return self
