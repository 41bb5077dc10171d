"""Orders that are sent to production during its release, and an account of them."""

import asyncio
import threading
import time
from typing import Final, Self

from orderflow_sandbox.report import Account
from tests.cluster.kube import ClusterError
from tests.cluster.orders import endless, patient_sender, settled_account
from tests.cluster.stack import Stack

_CONCURRENCY: Final = 256
_TRIES: Final = 10
_POLL_SECONDS: Final = 10.0


class OrderTraffic:
    """Use as a context manager. `rate` is in orders a second. account() ends the traffic."""

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
        self._result = asyncio.run_coroutine_threadsafe(self._send_orders(), self._loop)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._result.cancel()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def account(self) -> Account:
        """Waits until every stage has processed all orders. Raises NotSettledError where that takes too long, and
        ClusterError where production refused an order."""
        self._loop.call_soon_threadsafe(self._ended.set)
        try:
            return self._result.result()
        except ExceptionGroup as group:
            raise ClusterError(f"production refused an order: {group.exceptions[0]}") from group

    async def _send_orders(self) -> Account:
        async with patient_sender(self._stack) as shop:
            scenarios = endless(self._seed, "sold", self._ended)
            await shop.send_scenarios(scenarios, at_once=_CONCURRENCY, pause=1 / self._rate)
            deadline = time.monotonic() + _TRIES * _POLL_SECONDS
            while True:
                account = await settled_account(self._stack, shop.log)
                # The audit runs every minute, and publishes what is missing again.
                if account.settled or time.monotonic() > deadline:
                    return account
                await asyncio.sleep(_POLL_SECONDS)
