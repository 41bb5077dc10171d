"""The webhooks that were received. The Standard Webhooks library checks their signatures."""

from __future__ import annotations

import base64
import json
import secrets
from collections import deque
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from standardwebhooks.webhooks import WebhookVerificationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from standardwebhooks import Webhook

SHOWN: Final = 1000


@dataclass(frozen=True, slots=True)
class ReceivedWebhook:
    """One request. `fault` is empty where the signature is valid; `answer` is the status of the response."""

    received: str
    endpoint: str
    id: str
    type: str
    body: Any
    fault: str
    answer: int


@dataclass(slots=True)
class WebhookStore:
    """Kept in `file`, one line of JSON each. The newest ones and all counts are in memory, too."""

    file: Path
    last: deque[ReceivedWebhook] = field(default_factory=lambda: deque(maxlen=SHOWN))
    accepted: dict[str, int] = field(default_factory=dict)
    """The number of 2xx responses by webhook-id."""
    attempts: int = 0
    unverified: int = 0

    def __post_init__(self) -> None:
        if self.file.exists():
            with self.file.open() as lines:
                for line in lines:
                    self._count(ReceivedWebhook(**json.loads(line)))

    def add(self, webhook: ReceivedWebhook) -> None:
        with self.file.open("a") as lines:
            lines.write(json.dumps(asdict(webhook)) + "\n")
        self._count(webhook)

    def _count(self, webhook: ReceivedWebhook) -> None:
        self.last.append(webhook)
        self.attempts += 1
        self.unverified += bool(webhook.fault)
        if 200 <= webhook.answer < 300:  # noqa: PLR2004 - HTTP's class of success
            self.accepted[webhook.id] = self.accepted.get(webhook.id, 0) + 1


def shared_secret(file: Path) -> str:
    """The secret in the file, which is made at the first start."""
    if not file.exists():
        file.write_text(f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}\n")
    return file.read_text().strip()


def examine(
    verifier: Webhook, endpoint: str, headers: Mapping[str, str], content: bytes, status: int | None
) -> ReceivedWebhook:
    """Checks a request. The response is `status`, else 204, or 400 for an invalid signature."""
    body: Any = None
    fault = ""
    try:
        body = verifier.verify(content, dict(headers))
    except (WebhookVerificationError, ValueError) as error:
        fault = str(error) or type(error).__name__
    return ReceivedWebhook(
        received=datetime.now(UTC).isoformat(timespec="milliseconds"),
        endpoint=endpoint,
        id=headers.get("webhook-id", ""),
        type=body.get("type", "") if isinstance(body, dict) else "",
        body=body,
        fault=fault,
        answer=status or (400 if fault else 204),
    )
