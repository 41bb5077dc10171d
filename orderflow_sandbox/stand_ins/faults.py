"""Faults on demand: how the stand-ins misbehave, and how many times."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SmtpMode = Literal["defer", "refuse", "hang", "vanish", "stall"]
"""defer, refuse: 451 or 550 to the recipient. hang: accepts no mail and never answers. vanish: accepts the mail and
closes without an answer. stall: accepts the mail and never answers."""

WebhookMode = Annotated[int, Field(ge=200, le=599)] | Literal["hang", "redirect"]
"""A status; hang: never answers. redirect: 302 to an address here that counts as a webhook, too."""


class _Fault(BaseModel):
    """`times` None is without end."""

    model_config = ConfigDict(extra="forbid")

    times: Annotated[int, Field(ge=0)] | None = None

    def due(self) -> bool:
        """Whether the fault happens this time. Counts down."""
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


class SmtpFault(_Fault):
    mode: SmtpMode


class WebhookFault(_Fault):
    """`endpoint` is the last part of the path `/webhook/<endpoint>`. Without it the fault is that of every endpoint."""

    mode: WebhookMode
    endpoint: str | None = None


class Faults:
    """The faults at the moment. A restart ends them."""

    smtp: SmtpFault | None = None
    webhook: WebhookFault | None = None

    def of_smtp(self, *modes: SmtpMode) -> SmtpMode | None:
        """The mode of the fault, where it is one of `modes`."""
        fault = self.smtp
        return fault.mode if fault is not None and fault.mode in modes and fault.due() else None

    def of_webhook(self, endpoint: str) -> WebhookMode | None:
        fault = self.webhook
        if fault is None or fault.endpoint not in {None, endpoint}:
            return None
        return fault.mode if fault.due() else None
