"""Webhooks that the outside world received, their signatures checked by the Standard Webhooks library."""

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
class Hook:
    """One request. fault is empty where the signature is good; answer is the status that was given to it."""

    received: str
    endpoint: str
    id: str
    type: str
    body: Any
    fault: str
    answer: int


@dataclass(slots=True)
class HookStore:
    """A line of JSON each in `file`; the last ones and all counts in memory. Survives a restart."""

    file: Path
    last: deque[Hook] = field(default_factory=lambda: deque(maxlen=SHOWN))
    taken: dict[str, int] = field(default_factory=dict)
    """By webhook-id: how often it was answered with 2xx."""
    attempts: int = 0
    unverified: int = 0

    def __post_init__(self) -> None:
        if self.file.exists():
            with self.file.open() as lines:
                for line in lines:
                    self._count(Hook(**json.loads(line)))

    def add(self, hook: Hook) -> None:
        with self.file.open("a") as lines:
            lines.write(json.dumps(asdict(hook)) + "\n")
        self._count(hook)

    def _count(self, hook: Hook) -> None:
        self.last.append(hook)
        self.attempts += 1
        self.unverified += bool(hook.fault)
        if 200 <= hook.answer < 300:  # noqa: PLR2004 - HTTP's class of success
            self.taken[hook.id] = self.taken.get(hook.id, 0) + 1


def shared_secret(file: Path) -> str:
    """The secret in the file; made at the first start."""
    if not file.exists():
        file.write_text(f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}\n")
    return file.read_text().strip()


def examine(
    verifier: Webhook, endpoint: str, headers: Mapping[str, str], content: bytes, trouble: int | None
) -> Hook:
    """Checks a request. The answer is the trouble's, else 204, or 400 for a bad signature."""
    body: Any = None
    fault = ""
    try:
        body = verifier.verify(content, dict(headers))
    except (WebhookVerificationError, ValueError) as error:
        fault = str(error) or type(error).__name__
    return Hook(
        received=datetime.now(UTC).isoformat(timespec="milliseconds"),
        endpoint=endpoint,
        id=headers.get("webhook-id", ""),
        type=body.get("type", "") if isinstance(body, dict) else "",
        body=body,
        fault=fault,
        answer=trouble or (400 if fault else 204),
    )
