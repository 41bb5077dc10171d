"""Trouble on demand: what the outside world answers instead, and how many times."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SmtpMode = Literal["defer", "refuse", "hang", "vanish", "stall"]
"""451 or 550 to the recipient; takes nothing and never answers; takes the mail and closes without an answer, or
never answers."""

WebhookMode = Annotated[int, Field(ge=200, le=599)] | Literal["hang", "redirect"]
"""A status; never answers; 302 to an address here that counts as a webhook too."""


class _Trouble(BaseModel):
    """times None: until told otherwise."""

    model_config = ConfigDict(extra="forbid")

    times: Annotated[int, Field(ge=0)] | None = None

    def due(self) -> bool:
        """Counts down; whether this time is one of them."""
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


class SmtpTrouble(_Trouble):
    mode: SmtpMode


class WebhookTrouble(_Trouble):
    """endpoint is the last part of the path `/webhook/<endpoint>`; without it every endpoint has the trouble."""

    mode: WebhookMode
    endpoint: str | None = None


class Troubles:
    """What is asked for at the moment. Lost at a restart."""

    smtp: SmtpTrouble | None = None
    webhook: WebhookTrouble | None = None

    def of_smtp(self, *modes: SmtpMode) -> SmtpMode | None:
        """One of these modes, where it is asked for."""
        trouble = self.smtp
        return trouble.mode if trouble is not None and trouble.mode in modes and trouble.due() else None

    def of_webhook(self, endpoint: str) -> WebhookMode | None:
        trouble = self.webhook
        if trouble is None or trouble.endpoint not in {None, endpoint}:
            return None
        return trouble.mode if trouble.due() else None
