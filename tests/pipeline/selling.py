"""Orders that come to production while it is released, and what became of them."""

import asyncio
import threading
import time
from typing import Final, Self

from orderflow_sandbox.report import Account
from tests.cluster.kube import ClusterError
from tests.cluster.orders import accounted, endless, patient
from tests.cluster.stack import Stack

_AT_ONCE: Final = 256
_TRIES: Final = 10
_LOOK_SECONDS: Final = 10.0


class Selling:
    """Use as a context manager; account() ends it. rate is orders a second."""

    def __init__(self, stack: Stack, rate: float, seed: int) -> None:
        self._stack = stack
        self._rate = rate
        self._seed = seed
        self._ended = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._account: Account | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._told = asyncio.run_coroutine_threadsafe(self._sell(), self._loop)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._told.cancel()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def account(self) -> Account:
        """Once every stage has had everything. Raises NotSettledError where that takes too long, and ClusterError where
        production did not take an order, which ended the selling."""
        self._loop.call_soon_threadsafe(self._ended.set)
        try:
            return self._told.result()
        except ExceptionGroup as group:
            raise ClusterError(f"production took an order no more: {group.exceptions[0]}") from group

    async def _sell(self) -> Account:
        async with patient(self._stack) as to:
            scenarios = endless(self._seed, "sold", self._ended)
            await to.send_scenarios(scenarios, at_once=_AT_ONCE, pause=1 / self._rate)
            deadline = time.monotonic() + _TRIES * _LOOK_SECONDS
            while True:
                found = await accounted(self._stack, to.log)
                # What the audit finds missing it makes good, and it comes by the minute.
                if found.settled or time.monotonic() > deadline:
                    return found
                await asyncio.sleep(_LOOK_SECONDS)
