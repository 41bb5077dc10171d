"""The stages' figures, live on the terminal, and a wait until everything is done."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from rich.live import Live
from rich.table import Table

from orderflow_sandbox.address import SandboxError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from rich.console import Console

    from orderflow_sandbox.address import Address
    from orderflow_sandbox.sender import SendLog

_TEXT_COLUMNS: Final = ("stage", "revision")
_NUMBER_COLUMNS: Final = ("processes", "requests", "per s", "waiting", "retried", "dead letters")
_EVERY_SECONDS: Final = 0.5
STAGES: Final = ("intake", "validate", "track", "notify", "park", "shelve", "query")


@dataclass(frozen=True, slots=True)
class Figures:
    """The delivery's figures by source, and Serving's status by Service."""

    sources: dict[str, Any]
    services: dict[str, Any]

    @property
    def lag(self) -> int:
        """The number of records that are in a topic and not done."""
        partitions = (each for source in self.sources.values() for each in source["partitions"])
        return sum(each["lag"] for each in partitions)

    def table(self, log: SendLog, before: Figures | None) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        for name in _TEXT_COLUMNS:
            table.add_column(name)
        for name in _NUMBER_COLUMNS:
            table.add_column(name, justify="right")
        for name in STAGES:
            source = self.sources.get(name, {})
            for revision in self.services[name]["revisions"]:
                rate = (revision["requests"] - _requests(before, name, revision["name"])) / _EVERY_SECONDS
                lag = sum(each["lag"] for each in source.get("partitions", ()))
                table.add_row(
                    name,
                    f"{revision['name'].removeprefix(f'{name}-')} {revision['percent']} %",
                    str(len(revision["instances"]) or "zero"),
                    f"{revision['requests']:,}",
                    f"{rate:,.0f}",
                    f"{lag:,}" if source else "",
                    f"{source['retried']:,}" if source else "",
                    f"{source['dead_lettered']:,}" if source else "",
                )
        table.caption = f"{len(log.scenarios):,} orders, {sum(log.confirmed.values()):,} events confirmed"
        table.caption_justify = "left"
        return table


def _requests(figures: Figures | None, service: str, revision: str) -> int:
    if figures is None:
        return 0
    revisions = figures.services[service]["revisions"]
    return int(next((each["requests"] for each in revisions if each["name"] == revision), 0))


class Monitor:
    """Reads the figures of the running sandbox; `state` is its folder."""

    def __init__(self, address: Address, state: Path) -> None:
        self._address = address
        control = json.loads((state / "control.json").read_text())
        self._control = control["control"]
        self._headers = {"Authorization": f"Bearer {control['token']}"}

    def request(
        self,
        session: aiohttp.ClientSession,
        method: str,
        path: str,
        body: bytes = b"",
        query: dict[str, str] | None = None,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """A request to Serving's control endpoint."""
        url = f"{self._control}{path}"
        return session.request(method, url, data=body or None, params=query, headers=self._headers)

    async def figures(self, session: aiohttp.ClientSession) -> Figures:
        try:
            async with session.get(self._address.delivery) as response:
                sources = await response.json()
            async with self.request(session, "GET", "/status") as response:
                services = {each["name"]: each for each in await response.json()}
        except aiohttp.ClientError as error:
            raise SandboxError(f"the sandbox does not answer any more: {error}") from None
        return Figures(sources, services)

    async def show_while(self, work: Awaitable[None], log: SendLog, console: Console) -> None:
        """Shows the figures until `work` is done. Raises what `work` raises."""
        task = asyncio.ensure_future(work)
        before = None
        async with aiohttp.ClientSession() as session:
            with Live(console=console, transient=True, auto_refresh=False) as live:
                while True:
                    done, _ = await asyncio.wait([task], timeout=_EVERY_SECONDS)
                    if done:
                        break
                    now = await self.figures(session)
                    live.update(now.table(log, before), refresh=True)
                    before = now
        await task

    async def until_settled(self, settled: Callable[[], bool], patience: float) -> bool:
        """Waits until everything is done; returns False where nothing has moved for `patience` seconds before that."""
        loop = asyncio.get_running_loop()
        moved, last = loop.time(), None
        async with aiohttp.ClientSession() as session:
            while True:
                now = await self.figures(session)
                if now.lag == 0 and await asyncio.to_thread(settled):
                    return True
                counts = {name: source["delivered"] for name, source in now.sources.items()}
                if counts != last:
                    moved, last = loop.time(), counts
                if loop.time() - moved > patience:
                    return False
                await asyncio.sleep(_EVERY_SECONDS)
