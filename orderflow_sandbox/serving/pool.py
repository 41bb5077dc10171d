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

    from orderflow_sandbox.http_client import Connection
    from orderflow_sandbox.serving.options import ServingOptions

# A pod's restarts wait 10 s, 20 s ... 5 min; here someone is watching.
_FIRST_BACK_OFF = 1.0
_LONGEST_BACK_OFF = 30.0
_STEADY_AFTER = 10.0
_CRASH_LOOP = 3
_CONNECT_ATTEMPTS = 3


class RefusedError(Exception):
    """A request that no process answers; `status` is what its caller gets, and whether the connection ends with it."""

    def __init__(self, status: int, reason: str, *, close: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.close = close


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
        self._queue: deque[asyncio.Future[Instance]] = deque()
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

    def arrived(self) -> None:
        self.counts.requests += 1
        self.load.change(1, self._loop.time())

    def left(self) -> None:
        """A request that arrived is answered or given up."""
        self.load.change(-1, self._loop.time())

    async def connect(self) -> tuple[Instance, Connection]:
        """Waits for a process with room, and connects to it. The caller has to `release` the process.

        Raises RefusedError.
        """
        reason = ""
        for _ in range(_CONNECT_ATTEMPTS):
            instance = self._take_free() or await self._wait_for_one()
            connections = instance.connections
            try:
                return instance, connections.idle() or await connections.connect()
            except OSError as error:
                # Nothing was sent, so another process may have the request.
                reason = error.strerror or "connection failed"
                self._take_out(instance)
                self.release(instance)
            except asyncio.CancelledError:
                self.release(instance)
                raise
        raise RefusedError(502, f"{self.revision}: {reason}")

    async def _wait_for_one(self) -> Instance:
        waiter = self._enqueue()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter in self._queue:
                self._queue.remove(waiter)
            elif not waiter.cancelled() and waiter.exception() is None:
                self.release(waiter.result())
            raise

    def _enqueue(self) -> asyncio.Future[Instance]:
        if self._stopped:
            raise RefusedError(503, "the sandbox is stopping")
        if self._failing():
            self._scale_up_for_traffic()
            raise RefusedError(503, f"{self.revision} does not start: {self.problem}")
        if len(self._queue) >= self._context.options.queue_bound:
            raise RefusedError(503, "pending request queue full")
        waiter: asyncio.Future[Instance] = self._loop.create_future()
        self._queue.append(waiter)
        self._scale_up_for_traffic()
        return waiter

    def release(self, instance: Instance) -> None:
        """A process is done with a request: the next in the queue may have it."""
        instance.release()
        if self._queue:
            self._dispatch()

    def _take_out(self, instance: Instance) -> None:
        """A process does not accept connections any more; it is about to be found dead."""
        if instance in self.ready:
            self.ready.remove(instance)
            self.leaving.append(instance)

    def _take_free(self) -> Instance | None:
        """The process with the fewest requests, unless all have as many as they may have; with one more from now on."""
        free: Instance | None = None
        for each in self.ready:
            if self._concurrency and each.in_flight >= self._concurrency:
                continue
            if free is None or each.in_flight < free.in_flight:
                free = each
        if free is not None:
            free.take()
        return free

    def _dispatch(self) -> None:
        while self._queue:
            if self._queue[0].done():
                # Its caller has just given it up.
                self._queue.popleft()
            elif (instance := self._take_free()) is not None:
                self._queue.popleft().set_result(instance)
            else:
                break

    def _refuse_all(self, reason: str) -> None:
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_exception(RefusedError(503, reason))

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
            self._refuse_all(f"{self.revision} does not start: {why}")
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
        self._refuse_all("the sandbox is stopping")
        ready, self.ready = self.ready, []
        self.leaving += ready
        await asyncio.gather(
            *(each.drain(patience) for each in self.leaving),
            *(each.end() for each in self.starting),
        )
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
