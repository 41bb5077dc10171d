"""A revision's processes, and the queue of requests that wait for one."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orderflow_sandbox.serving.autoscaler import BUCKET_SECONDS, Limits, Load, Memory, Observation, decide
from orderflow_sandbox.serving.errors import ManifestError, RefusedError, StartError
from orderflow_sandbox.serving.instance import Instance, PortAllocator, bound_log
from orderflow_sandbox.serving.launch import launch
from orderflow_sandbox.serving.restarts import Restarts

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from orderflow_sandbox.http_client import Connection
    from orderflow_sandbox.serving.options import ServingOptions
    from orderflow_sandbox.serving.service import Template

_CONNECT_ATTEMPTS = 3


@dataclass(frozen=True)
class PoolContext:
    """What the pools of all revisions share. `on_ready` is called with a service and its revision."""

    options: ServingOptions
    ports: PortAllocator
    config_maps: Mapping[str, Mapping[str, str]]
    on_ready: Callable[[str, str], None]


@dataclass
class Counts:
    """Since the sandbox started. `codes` counts responses by status."""

    requests: int = 0
    cold_starts: int = 0
    codes: Counter[int] = field(default_factory=Counter)


class Pool:
    """One revision's processes. Not thread-safe: all calls come from the event loop's thread."""

    def __init__(self, service: str, revision: str, template: Template, context: PoolContext) -> None:
        self.service = service
        self.revision = revision
        self.template = template
        self.timeout = template.spec.timeout_seconds
        self.counts = Counts()
        self.problem = ""
        self.ready: list[Instance] = []
        self.starting: list[Instance] = []
        self.draining: list[Instance] = []
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
        self._activation_scale = min(scale.activation_scale, self._limits.max_scale)
        self._initial_scale = min(scale.initial_scale, self._limits.max_scale)
        self.load = Load(BUCKET_SECONDS * options.time_scale, self._limits.window, self._loop.time())
        self._memory = Memory()
        self._desired = 0
        self._queue: deque[asyncio.Future[Instance]] = deque()
        self._restarts = Restarts(options.time_scale)
        self._restart_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
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

    # Requests.

    def request_started(self) -> None:
        self.counts.requests += 1
        self.load.change(1, self._loop.time())

    def request_ended(self) -> None:
        self.load.change(-1, self._loop.time())

    async def connect(self) -> tuple[Instance, Connection]:
        """Waits for a process with room and connects to it. The caller has to `release` the process.

        Raises RefusedError.
        """
        reason = ""
        for _ in range(_CONNECT_ATTEMPTS):
            instance = self._take_free() or await self._wait_for_instance()
            connections = instance.connections
            try:
                return instance, connections.idle() or await connections.connect()
            except OSError as error:
                # Nothing was sent, so another process may have the request.
                reason = error.strerror or "connection failed"
                self._stop_using(instance)
                self.release(instance)
            except asyncio.CancelledError:
                self.release(instance)
                raise
        raise RefusedError(502, f"{self.revision}: {reason}")

    def release(self, instance: Instance) -> None:
        """A process has one request less; the next one in the queue may take its place."""
        instance.release()
        if self._queue:
            self._dispatch()

    async def _wait_for_instance(self) -> Instance:
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
        if self._in_crash_loop():
            self._scale_up_for_traffic()
            raise RefusedError(503, f"{self.revision} does not start: {self.problem}")
        if len(self._queue) >= self._context.options.queue_bound:
            raise RefusedError(503, "pending request queue full")
        waiter: asyncio.Future[Instance] = self._loop.create_future()
        self._queue.append(waiter)
        self._scale_up_for_traffic()
        return waiter

    def _take_free(self) -> Instance | None:
        """Gives one more request to the process with the fewest; None where every process is at its limit."""
        free: Instance | None = None
        for instance in self.ready:
            if self._concurrency and instance.in_flight >= self._concurrency:
                continue
            if free is None or instance.in_flight < free.in_flight:
                free = instance
        if free is not None:
            free.take()
        return free

    def _dispatch(self) -> None:
        while self._queue:
            if self._queue[0].done():
                # The caller has just closed its connection.
                self._queue.popleft()
            elif (instance := self._take_free()) is not None:
                self._queue.popleft().set_result(instance)
            else:
                break

    def _refuse_queue(self, reason: str) -> None:
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_exception(RefusedError(503, reason))

    def _stop_using(self, instance: Instance) -> None:
        """The process accepts no connection any more. Its end will be noticed in a moment."""
        if instance in self.ready:
            self.ready.remove(instance)
            self.draining.append(instance)

    # Scale.

    def autoscale(self) -> None:
        """One tick of the autoscaler."""
        now = self._loop.time()
        bound_log(self.log, self._context.options.log_bound)
        if self._stopped or not self.was_ready:
            # The initial scale holds until a process has been ready.
            self._reconcile()
            return
        limits = self._limits
        observation = Observation(
            now=now,
            stable=self.load.average(limits.window, now),
            panic=self.load.average(limits.panic_window, now),
            ready=len(self.ready),
            quiet_for=self.load.quiet_for(now),
        )
        desired, self._memory = decide(limits, observation, self._memory)
        if not self.routed and not self.load.level:
            # min-scale holds only for a revision that a route leads to.
            desired = 0 if observation.quiet_for >= limits.window + limits.retention else 1
            desired = min(desired, len(self.ready) + len(self.starting))
        self._scale_to(desired)

    def scale_for_route(self) -> None:
        """Starts the initial scale of a new revision, or min-scale of one that a route leads to."""
        if not self.was_ready:
            self._scale_to(max(self._initial_scale, self._desired))
        elif self.routed and self._limits.min_scale > self._desired:
            self._scale_to(self._limits.min_scale)

    def forget_failures(self) -> None:
        """The revision was applied again: its next process starts at once."""
        self._restarts.reset()
        self.scale_for_route()

    def _scale_up_for_traffic(self) -> None:
        if not self._desired:
            self.counts.cold_starts += 1
        self._scale_to(max(self._desired, self._activation_scale))

    def _scale_to(self, desired: int) -> None:
        self._desired = desired
        surplus = len(self.ready) + len(self.starting) - desired
        # A process that is still starting goes on; a later tick finds it ready.
        for instance in sorted(self.ready, key=lambda each: each.in_flight)[: max(0, surplus)]:
            self._stop_using(instance)
            self._spawn(instance.drain(self.timeout))
        self._reconcile()

    def _reconcile(self) -> None:
        missing = self._desired - len(self.ready) - len(self.starting)
        if missing <= 0 or self._stopped:
            return
        wait = self._restarts.wait(self._loop.time())
        if wait > 0:
            if self._restart_timer is None:
                self._restart_timer = self._loop.call_later(wait, self._restart)
            return
        for _ in range(missing):
            instance = Instance(self._context.ports.take(), self.log)
            self.starting.append(instance)
            self._spawn(self._run(instance))

    def _restart(self) -> None:
        self._restart_timer = None
        self._reconcile()

    async def _run(self, instance: Instance) -> None:
        """One process from its start to its end."""
        options = self._context.options
        identity = (self.service, self.revision)
        try:
            command = launch(self.template, identity, instance.port, options, self._context.config_maps)
            await instance.start(command, options.root, options.start_deadline)
        except (StartError, ManifestError) as error:
            await instance.end()
            self.starting.remove(instance)
            self._failed(str(error))
            return
        except asyncio.CancelledError:
            await instance.end()
            raise
        self.starting.remove(instance)
        self._became_ready(instance)
        ready_at = self._loop.time()
        status = await instance.ended()
        expected = instance.draining
        for instances in (self.ready, self.draining):
            if instance in instances:
                instances.remove(instance)
        if expected:
            self._restarts.succeeded()
        else:
            await instance.end()
            reason = f"process {instance.pid} ended with {status}"
            self._failed(reason, ran_for=self._loop.time() - ready_at)

    def _became_ready(self, instance: Instance) -> None:
        self.ready.append(instance)
        self.load.wake(self._loop.time())
        self.problem = ""
        if not self.was_ready:
            self.was_ready = True
            self._context.on_ready(self.service, self.revision)
        self._dispatch()

    def _failed(self, reason: str, ran_for: float = 0.0) -> None:
        self.problem = reason
        self._restarts.failed(self._loop.time(), ran_for)
        if self._in_crash_loop():
            self._refuse_queue(f"{self.revision} does not start: {reason}")
        self._reconcile()

    def _in_crash_loop(self) -> bool:
        return self._restarts.crash_loop and not self.ready

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self, patience: float) -> None:
        """Refuses queued requests, gives those in flight `patience` seconds, and ends every process."""
        self._stopped = True
        self._desired = 0
        if self._restart_timer is not None:
            self._restart_timer.cancel()
        self._refuse_queue("the sandbox is stopping")
        ready, self.ready = self.ready, []
        self.draining += ready
        await asyncio.gather(
            *(instance.drain(patience) for instance in self.draining),
            *(instance.end() for instance in self.starting),
        )
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
