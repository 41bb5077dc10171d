"""What the stand-ins really received, and the faults that they cause on demand."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp

from orderflow_sandbox.address import free_port
from orderflow_sandbox.servers.child import Child, Step
from tests.chaos import manifests
from tests.chaos.errors import FaultError

ENDPOINT = "shop-system"
_NOTIFICATIONS = """\
[shop]
name = "Chaos shop"
url = "{http}"

[email]
from = "orders@shop.example"
smtp_url = "smtp://127.0.0.1:{smtp}"
timeout_seconds = 3

[[webhooks]]
name = "{endpoint}"
url = "{http}/webhook"
secret_file = "{state}/webhook-secret"
allow_private = true
timeout_seconds = 3
"""
_MESSAGE_ID = re.compile(rb"^Message-ID:\s*<([^@>]+)@", re.MULTILINE | re.IGNORECASE)
_HEAD_BYTES = 4096
_READY_SECONDS = 30.0


class StandIns:
    """What they received is read from their files: one mail per file, one webhook per line."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self._smtp, self._port = free_port(), free_port()
        self._http = f"http://127.0.0.1:{self._port}"
        self.notifications_file = state / "notifications.toml"
        self._hooks_read = 0
        self._last_mail = ""

    @property
    def ports(self) -> dict[str, int]:
        """By channel."""
        return {"smtp": self._smtp, "webhook": self._port}

    @property
    def pid(self) -> int | None:
        return self._child.pid

    async def __aenter__(self) -> Self:
        self.state.mkdir(parents=True)
        text = _NOTIFICATIONS.format(http=self._http, smtp=self._smtp, state=self.state, endpoint=ENDPOINT)
        self.notifications_file.write_text(text)
        self._child = Child(
            [
                *(sys.executable, "-m", "orderflow_sandbox.stand_ins", "--state", str(self.state)),
                *("--smtp-port", str(self._smtp), "--http-port", str(self._port)),
            ],
            console=self.state / "console.log",
            on_orphaned=signal.SIGKILL,
            env=dict(os.environ) | {"PYTHONPATH": str(manifests.ROOT)},
        )
        deadline = asyncio.get_running_loop().time() + _READY_SECONDS
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"{self._http}/api/counts"):
                        return self
                except aiohttp.ClientError:
                    if asyncio.get_running_loop().time() > deadline:
                        raise FaultError("the stand-ins did not start") from None
                    await asyncio.sleep(0.05)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._child.stop, Step(signal.SIGTERM, 10))

    @asynccontextmanager
    async def fault(self, channel: str, mode: str | int, times: int) -> AsyncIterator[None]:
        """`smtp` or `webhook` has the fault so many times while the block lasts."""
        await self._put(channel, {"mode": mode, "times": times})
        try:
            yield
        finally:
            await self._put(channel, None)

    async def _put(self, channel: str, fault: dict[str, Any] | None) -> None:
        url = f"{self._http}/api/faults/{channel}"
        async with aiohttp.ClientSession() as session, session.put(url, data=json.dumps(fault)) as answer:
            answer.raise_for_status()

    def news(self) -> Iterator[str]:
        """The Message-ID or webhook-id of everything that was accepted since the last call."""
        yield from self._mails()
        yield from self._webhooks()

    def _mails(self) -> Iterator[str]:
        since = self._last_mail
        for entry in os.scandir(self.state / "mails" / "new"):
            if entry.name > since:
                self._last_mail = max(self._last_mail, entry.name)
                with Path(entry.path).open("rb") as mail:
                    message_id = _MESSAGE_ID.search(mail.read(_HEAD_BYTES))
                yield message_id[1].decode() if message_id else f"no Message-ID in {entry.name}"

    def _webhooks(self) -> Iterator[str]:
        file = self.state / "webhooks.jsonl"
        if not file.exists():
            return
        with file.open("rb") as lines:
            lines.seek(self._hooks_read)
            for line in lines:
                self._hooks_read += len(line)
                hook = json.loads(line)
                if 200 <= hook["answer"] < 300:
                    yield hook["id"]
