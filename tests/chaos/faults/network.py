"""Connections that go nowhere: packets vanish, a firewall forgets what was idle, a server acknowledges and never
answers. The servers themselves stay whole."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from urllib.parse import urlsplit

import psutil

from tests.chaos.errors import FaultError
from tests.chaos.faults.stages import IN_FLIGHT
from tests.chaos.scenario import Run, Scenario, pause
from tests.chaos.shop import Shop

_TABLE = "orderflow_chaos"
_FROZEN_SECONDS = 15.0
_IDLE_SECONDS = 8.0
_AFTER = 60
"""Orders that are sent while the connections stay swallowed."""
_ESTABLISHED = psutil.CONN_ESTABLISHED

Strike = Callable[[Run], Awaitable[None]]


def packets_vanish(server: str) -> Strike:
    """The stages' open connections to the server are swallowed, without FIN or RST. New ones work."""

    async def strike(run: Run) -> None:
        await run.mid_load()
        with contextlib.ExitStack() as stack:
            with run.fault():
                _swallow(run.shop, server, stack)
            await run.load.until_sent(_AFTER)

    return strike


def idle_connections_are_forgotten(server: str) -> Strike:
    """As packets_vanish, while nothing is under way: nobody notices before the next event needs the connection."""

    async def strike(run: Run) -> None:
        # Two stages that do not scale to zero meanwhile.
        for stage in ("track", "notify"):
            await run.shop.apply(stage, processes=1)
        await run.mid_load()
        await run.settle()
        run.load.paused = True
        await pause(_IDLE_SECONDS)
        with contextlib.ExitStack() as stack:
            with run.fault():
                _swallow(run.shop, server, stack)
            run.load.paused = False
            await run.load.until_sent(_AFTER)
        for stage in ("track", "notify"):
            await run.shop.apply(stage)

    return strike


def server_freezes(server: str) -> Strike:
    """The server's processes are stopped: the kernel acknowledges what is sent, and nobody answers."""

    async def strike(run: Run) -> None:
        await run.mid_load()
        with run.fault(), _frozen(_process_id(run.shop, server)):
            await pause(_FROZEN_SECONDS)

    return strike


def _swallow(shop: Shop, server: str, stack: contextlib.ExitStack) -> None:
    """Drops the packets of the stages' present connections to the server, until the stack is closed.

    They stay swallowed: once its packets passed again, such a connection would live on.
    """
    pairs = [
        (client, port)
        for process_id in _stage_processes(shop)
        for client, port in _connections(process_id, _ports(shop, server))
    ]
    if not pairs:
        raise FaultError(f"no stage has a connection to {server}")
    both_ways = ", ".join(f"{a} . {b}, {b} . {a}" for a, b in pairs)
    _nft(
        f"table inet {_TABLE} {{ chain output {{ type filter hook output priority 0; "
        f'oifname "lo" tcp sport . tcp dport {{ {both_ways} }} drop; }}\n}}'
    )
    stack.callback(_nft, f"delete table inet {_TABLE}")


def _stage_processes(shop: Shop) -> Iterator[int]:
    for service in shop.serving.status():
        for revision in service.revisions:
            yield from (instance.pid for instance in revision.instances)


def _connections(process_id: int, ports: set[int]) -> Iterator[tuple[int, int]]:
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in psutil.Process(process_id).net_connections(kind="tcp"):
            if each.status == _ESTABLISHED and each.raddr and each.raddr.port in ports:
                yield each.laddr.port, each.raddr.port


def _ports(shop: Shop, server: str) -> set[int]:
    match server:
        case "postgres":
            return {urlsplit(shop.database).port or 0}
        case "kafka":
            return {int(address.rpartition(":")[2]) for address in shop.bootstrap.split(",")}
        case _:
            return {shop.stand_ins.ports[server]}


def _process_id(shop: Shop, server: str) -> int:
    servers = {"postgres": shop.postgres.pid, "kafka": shop.brokers[0].pid}
    process_id = servers.get(server, shop.stand_ins.pid)
    if process_id is None:
        raise FaultError(f"{server} does not run")
    return process_id


@contextlib.contextmanager
def _frozen(process_id: int) -> Iterator[None]:
    root = psutil.Process(process_id)
    processes = [each.pid for each in (root, *root.children(recursive=True))]
    for each in processes:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGCONT)


def _nft(script: str) -> None:
    try:
        subprocess.run(["nft", "-f", "-"], input=script.encode(), check=True, capture_output=True)
    except FileNotFoundError:
        raise FaultError("nft is not there (Debian's package nftables)") from None
    except subprocess.CalledProcessError as error:
        raise FaultError(f"nft: {error.stderr.decode().strip()}") from None


def _scenarios() -> Iterator[Scenario]:
    for server in ("postgres", "kafka", "smtp", "webhook"):
        copies = 0 if server == "kafka" else IN_FLIGHT
        yield Scenario(
            f"vanish-{server}",
            f"packets to {server} vanish",
            packets_vanish(server),
            copies=copies,
            needs_root=True,
        )
        yield Scenario(
            f"frozen-{server}", f"{server} frozen, acknowledges only", server_freezes(server), copies=copies
        )
    for server in ("postgres", "kafka"):
        yield Scenario(
            f"forgotten-{server}",
            f"idle connections to {server} forgotten",
            idle_connections_are_forgotten(server),
            copies=IN_FLIGHT if server == "postgres" else 0,
            needs_root=True,
        )


SCENARIOS = [*_scenarios()]
