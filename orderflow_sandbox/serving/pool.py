"""A revision's processes, the queue before them and the breaker on each."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orderflow_sandbox.serving.autoscaler import BUCKET_SECONDS, Limits, Load, Memory, Observed, decide
from orderflow_sandbox.serving.instance import Instance, Ports, StartError, bound_log
from orderflow_sandbox.serving.launch import launch
from orderflow_sandbox.serving.manifest import ManifestError, Template

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from orderflow_sandbox.serving.exchange import Exchange
    from orderflow_sandbox.serving.options import ServingOptions

# A pod's restarts wait 10 s, 20 s ... 5 min; here someone is watching.
_FIRST_BACK_OFF = 1.0
_LONGEST_BACK_OFF = 30.0
_STEADY_AFTER = 10.0
_CRASH_LOOP = 3


@dataclass(frozen=True)
class PoolContext:
    """What all revisions of a sandbox share."""

    options: ServingOptions
    ports: Ports
    config_maps: Mapping[str, Mapping[str, str]]
    on_ready: Callable[[str, str], None]


@dataclass
class Counts:
    """What a revision has done since the sandbox started."""

    requests: int = 0
    cold_starts: int = 0
    codes: Counter[int] = field(default_factory=Counter)


class Pool:
    """One revision's processes. All methods belong to the event loop's thread."""

    def __init__(self, service: str, revision: str, template: Template, context: PoolContext) -> None:
        """Nothing runs until it is scaled or asked."""
        self.service = service
        self.revision = revision
        self.template = template
        self.timeout = template.spec.timeout_seconds
        self.counts = Counts()
        self.problem = ""
        self.ready: list[Instance] = []
        self.starting: list[Instance] = []
        self.leaving: list[Instance] = []
        self.routed = False
        self.was_ready = False
        self._context = context
        self._loop = asyncio.get_running_loop()
        scale = template.scale
        options = context.options
        self._concurrency = template.spec.container_concurrency
        self._limits = Limits.of(
            scale, self._concurrency, cap=options.max_processes, time_scale=options.time_scale
        )
        self._activation = min(scale.activation_scale, self._limits.max_scale)
        self._initial = min(scale.initial_scale, self._limits.max_scale)
        self.load = Load(BUCKET_SECONDS * options.time_scale, self._limits.window, self._loop.time())
        self._memory = Memory()
        self._wanted = 0
        self._queue: deque[Exchange] = deque()
        self._failures = 0
        self._not_before = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._stopped = False
        self.log = options.state / "logs" / f"{revision}.log"

    @property
    def in_flight(self) -> int:
        """Requests with a process or waiting for one."""
        return self.load.level

    @property
    def queued(self) -> int:
        """Requests waiting for a process."""
        return len(self._queue)

    # The data path.

    def submit(self, exchange: Exchange) -> None:
        """Give a request to a process, queue it, or refuse it with 503."""
        instance = self._with_room()
        if instance is not None:
            self._assign(exchange, instance)
        elif self._stopped:
            exchange.refuse(503, "the sandbox is stopping")
        elif self._failing():
            self._scale_up_for_traffic()
            exchange.refuse(503, f"{self.revision} does not start: {self.problem}")
        elif len(self._queue) >= self._context.options.queue_bound:
            exchange.refuse(503, "pending request queue full")
        else:
            self._queue.append(exchange)
            self._scale_up_for_traffic()

    def withdraw(self, exchange: Exchange) -> None:
        """A queued request is not wanted any more."""
        if exchange in self._queue:
            self._queue.remove(exchange)

    def release(self, instance: Instance) -> None:
        """A process is done with a request: the next in the queue may have it."""
        instance.release()
        if self._queue:
            self._dispatch()

    def refused(self, instance: Instance) -> None:
        """A process does not accept connections any more; it is about to be found dead."""
        if instance in self.ready:
            self.ready.remove(instance)
            self.leaving.append(instance)

    def _with_room(self) -> Instance | None:
        found: Instance | None = None
        for each in self.ready:
            if self._concurrency and each.in_flight >= self._concurrency:
                continue
            if found is None or each.in_flight < found.in_flight:
                found = each
        return found

    def _assign(self, exchange: Exchange, instance: Instance) -> None:
        instance.take()
        exchange.assign(instance)

    def _dispatch(self) -> None:
        while self._queue and (instance := self._with_room()) is not None:
            self._assign(self._queue.popleft(), instance)

    # Scale.

    def autoscale(self) -> None:
        """One tick: look at the load, decide, act."""
        now = self._loop.time()
        bound_log(self.log, self._context.options.log_bound)
        if self._stopped or not self.was_ready:
            # The initial scale stands until a process has been ready.
            self._reconcile()
            return
        limits = self._limits
        observed = Observed(
            now=now,
            stable=self.load.average(limits.window, now),
            panic=self.load.average(limits.panic_window, now),
            ready=len(self.ready),
            quiet_for=self.load.quiet_for(now),
        )
        wanted, self._memory = decide(limits, observed, self._memory)
        if not self.routed and not self.load.level:
            # min-scale holds only for a revision that a route leads to.
            wanted = 0 if observed.quiet_for >= limits.window + limits.retention else 1
            wanted = min(wanted, len(self.ready) + len(self.starting))
        self._scale_to(wanted)

    def begin(self) -> None:
        """Start a new revision's initial scale, or what min-scale asks of a routed one."""
        if not self.was_ready:
            self._scale_to(max(self._initial, self._wanted))
        elif self.routed and self._limits.min_scale > self._wanted:
            self._scale_to(self._limits.min_scale)

    def start_over(self) -> None:
        """Someone has applied it again: do not hold earlier failures against it."""
        self._failures = 0
        self._not_before = 0.0
        self.begin()

    def _scale_up_for_traffic(self) -> None:
        if not self._wanted:
            self.counts.cold_starts += 1
        self._scale_to(max(self._wanted, self._activation))

    def _scale_to(self, wanted: int) -> None:
        self._wanted = wanted
        surplus = len(self.ready) + len(self.starting) - wanted
        # One that is still starting is left to: the next tick finds it ready.
        for instance in sorted(self.ready, key=lambda each: each.in_flight)[: max(0, surplus)]:
            self.ready.remove(instance)
            self.leaving.append(instance)
            self._spawn(instance.drain(self.timeout))
        self._reconcile()

    def _reconcile(self) -> None:
        missing = self._wanted - len(self.ready) - len(self.starting)
        if missing <= 0 or self._stopped:
            return
        wait = self._not_before - self._loop.time()
        if wait > 0:
            if self._retry is None:
                self._retry = self._loop.call_later(wait, self._try_again)
            return
        for _ in range(missing):
            instance = Instance(self._context.ports.take(), self.log)
            self.starting.append(instance)
            self._spawn(self._live(instance))

    def _try_again(self) -> None:
        self._retry = None
        self._reconcile()

    async def _live(self, instance: Instance) -> None:
        """One process from start to end."""
        options = self._context.options
        identity = (self.service, self.revision)
        try:
            what = launch(self.template, identity, instance.port, options, self._context.config_maps)
            await instance.start(what, options.root, options.start_deadline)
        except (StartError, ManifestError) as why:
            await instance.end()
            self.starting.remove(instance)
            self._failed(str(why))
            return
        except asyncio.CancelledError:
            await instance.end()
            raise
        self.starting.remove(instance)
        self._now_ready(instance)
        since = self._loop.time()
        status = await instance.ended()
        asked_to = instance.draining
        for among in (self.ready, self.leaving):
            if instance in among:
                among.remove(instance)
        if asked_to:
            self._failures = 0
        else:
            await instance.end()
            if self._loop.time() - since > _STEADY_AFTER * options.time_scale:
                self._failures = 0
            self._failed(f"process {instance.pid} ended with {status}")

    def _now_ready(self, instance: Instance) -> None:
        self.ready.append(instance)
        self.load.wake(self._loop.time())
        self.problem = ""
        if not self.was_ready:
            self.was_ready = True
            self._context.on_ready(self.service, self.revision)
        self._dispatch()

    def _failed(self, why: str) -> None:
        self.problem = why
        self._failures += 1
        pause = min(_FIRST_BACK_OFF * 2 ** (self._failures - 2), _LONGEST_BACK_OFF)
        if self._failures > 1:
            pause *= self._context.options.time_scale
            self._not_before = self._loop.time() + pause
        if self._failing():
            while self._queue:
                self._queue.popleft().refuse(503, f"{self.revision} does not start: {why}")
        self._reconcile()

    def _failing(self) -> bool:
        return self._failures >= _CRASH_LOOP and not self.ready

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self, patience: float) -> None:
        """Refuse what waits, let what is in flight end, leave no process."""
        self._stopped = True
        self._wanted = 0
        if self._retry is not None:
            self._retry.cancel()
        while self._queue:
            self._queue.popleft().refuse(503, "the sandbox is stopping")
        ready, self.ready = self.ready, []
        self.leaving += ready
        await asyncio.gather(
            *(each.drain(patience) for each in self.leaving),
            *(each.end() for each in self.starting),
        )
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
