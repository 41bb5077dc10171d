"""Serving with real processes of a small ASGI function, which it starts, scales, splits, replaces and drains."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import psutil
import pytest
import yaml
from support.processes import runs

from orderflow_sandbox.serving import ManifestError, Serving, ServingOptions
from orderflow_sandbox.serving.manifest import parse
from orderflow_sandbox.serving.service import Target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from orderflow_sandbox.serving.status import RevisionStatus

FUNCTION = """
import asyncio, json, os, pathlib, signal

GATE = pathlib.Path("gate")
in_flight = peak = 0

async def gate_open():
    while not GATE.exists():
        await asyncio.sleep(0.005)

async def app(scope, receive, send):
    global in_flight, peak
    if scope["type"] != "http":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    path = scope["path"]
    in_flight += 1
    peak = max(peak, in_flight)
    if path == "/exit":
        os._exit(3)
    if path == "/held":
        if os.environ["COLOUR"] == "abrupt":
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        await gate_open()
    if path == "/turn":
        await asyncio.sleep(0.005)
    if path == "/none":
        in_flight -= 1
        await send({"type": "http.response.start", "status": 204, "headers": []})
        return await send({"type": "http.response.body"})
    if path == "/stream":
        head = [(b"content-type", b"text/event-stream"), (b"kne-reason", b"kept")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": b"data: first\\n\\n", "more_body": True})
        await gate_open()
        await send({"type": "http.response.body", "body": b"data: second\\n\\n"})
        in_flight -= 1
        return
    answer = {
        "pid": os.getpid(), "revision": os.environ["K_REVISION"], "path": path, "peak": peak,
        "method": scope["method"], "body": body.decode("latin-1"), "colour": os.environ.get("COLOUR"),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
    }
    in_flight -= 1
    out = json.dumps(answer).encode()
    head = [(b"content-length", str(len(out)).encode()), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": out})
"""
UVICORN = ["python", "-m", "uvicorn", "fn:app", "--host", "0.0.0.0", "--port", "8080"]  # noqa: S104
SCALE = 0.05
DEADLINE = 20.0
HOST = "echo.orderflow.svc.cluster.local"


def manifest(colour: str = "none", scale: dict[str, str] | None = None, **spec: Any) -> str:
    """A Service `echo`. `scale` has autoscaling annotations; `spec` is for the revision's spec."""
    traffic = spec.pop("traffic", None)
    labels = spec.pop("labels", {})
    command = spec.pop("command", UVICORN)
    annotations = {f"autoscaling.knative.dev/{key}": value for key, value in (scale or {}).items()}
    annotations.setdefault("autoscaling.knative.dev/window", "6s")
    container = {"image": "x", "command": command, "env": [{"name": "COLOUR", "value": colour}]}
    document: dict[str, Any] = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "echo", "labels": labels},
        "spec": {
            "template": {
                "metadata": {"annotations": annotations},
                "spec": {"containers": [container], **spec},
            }
        },
    }
    if traffic:
        document["spec"]["traffic"] = traffic
    return yaml.safe_dump(document)


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Serving]]:
    """Starts Serving on tmp_path, with the same state each time."""
    (tmp_path / "fn.py").write_text(FUNCTION)

    @asynccontextmanager
    async def start_serving(*manifests: str, **changes: Any) -> AsyncIterator[Serving]:
        defaults: dict[str, Any] = {"root": tmp_path, "state": tmp_path / "state", "time_scale": SCALE}
        async with Serving(ServingOptions(**(defaults | changes)), random.Random(7)) as serving:  # noqa: S311
            for text in manifests:
                serving.apply(parse(text, "echo.yaml"))
                await serving.until_ready(DEADLINE)
            yield serving

    return start_serving


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE)) as session:
        yield session


async def until(condition: Callable[[], bool], description: str) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"not within {DEADLINE} s: {description}"
        await asyncio.sleep(0.01)


async def call(
    client: aiohttp.ClientSession, serving: Serving, path: str = "/", host: str = HOST
) -> tuple[int, Any]:
    url = f"http://127.0.0.1:{serving.port}{path}"
    async with client.post(url, headers={"Host": host}, data=b"order") as answer:
        text = await answer.text()
        return answer.status, json.loads(text) if answer.status == 200 else text


async def raw(serving: Serving, request: bytes) -> bytes:
    """Sends the request and returns the bytes that the ingress answers until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
    writer.write(request)
    async with asyncio.timeout(DEADLINE):
        response = await reader.read()
    writer.close()
    return response


def revision(serving: Serving, index: int = -1) -> RevisionStatus:
    return serving.status()[0].revisions[index]


def pids(serving: Serving) -> set[int]:
    return {each.pid for each in revision(serving).instances}


async def until_zero(serving: Serving) -> None:
    await until(lambda: not revision(serving).instances, "scaled to zero")


async def test_the_first_request_after_zero_is_answered_by_a_new_process(
    start: Any, client: aiohttp.ClientSession
) -> None:
    async with start(manifest()) as serving:
        first = pids(serving)
        await until_zero(serving)
        assert not any(psutil.pid_exists(pid) for pid in first)
        status, answer = await call(client, serving)
        assert status == 200
        assert answer["pid"] not in first
        assert revision(serving).cold_starts == 1


async def test_it_stays_up_while_a_request_is_in_flight_and_goes_to_zero_after(
    start: Any, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with start(manifest("idle"), manifest("busy")) as serving:
        held_call = asyncio.create_task(call(client, serving, "/held"))
        await until(lambda: revision(serving).in_flight == 1, "in flight")
        before = pids(serving)
        # An idle revision goes to zero in this time. This one must not.
        await until(lambda: not revision(serving, 0).instances, "the idle revision at zero")
        assert pids(serving) == before
        (tmp_path / "gate").touch()
        assert (await held_call)[0] == 200
        await until_zero(serving)


async def test_min_scale_keeps_a_process(start: Any) -> None:
    async with start(manifest(), manifest("kept", {"min-scale": "1"})) as serving:
        await until(lambda: not revision(serving, 0).instances, "the old revision at zero")
        assert len(revision(serving).instances) == 1


async def test_a_burst_starts_more_processes_up_to_the_cap(
    start: Any, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with start(manifest(scale={"target": "5"})) as serving:
        burst = [asyncio.create_task(call(client, serving, "/held")) for _ in range(60)]
        await until(lambda: len(revision(serving).instances) == 2, "a second process")
        await until(lambda: all(each.phase == "ready" for each in revision(serving).instances), "ready")
        assert (await call(client, serving))[0] == 200
        (tmp_path / "gate").touch()
        assert {status for status, _ in await asyncio.gather(*burst)} == {200}
        assert len(pids(serving)) <= 2


async def test_two_revisions_share_traffic_as_the_percents_say(
    start: Any, client: aiohttp.ClientSession
) -> None:
    async with start(manifest("blue"), manifest("green")) as serving:
        serving.send_traffic(
            "echo",
            [Target(revision_name="echo-00001", percent=80), Target(latest_revision=True, percent=20)],
        )
        requests_by_colour: Counter[str] = Counter()
        for _ in range(500):
            requests_by_colour[(await call(client, serving))[1]["colour"]] += 1
        # Five standard deviations of 500 rolls.
        assert requests_by_colour["blue"] + requests_by_colour["green"] == 500
        assert 55 <= requests_by_colour["green"] <= 145


async def test_a_container_concurrency_of_one_never_overlaps(
    start: Any, client: aiohttp.ClientSession
) -> None:
    async with start(manifest(containerConcurrency=1)) as serving:
        answers = await asyncio.gather(*(call(client, serving, "/turn") for _ in range(40)))
        assert [status for status, _ in answers] == [200] * 40
        assert {answer["peak"] for _, answer in answers} == {1}


async def test_a_killed_process_is_replaced_and_its_caller_gets_502(
    start: Any, client: aiohttp.ClientSession
) -> None:
    async with start(manifest(scale={"min-scale": "1"})) as serving:
        held_call = asyncio.create_task(call(client, serving, "/held"))
        await until(lambda: any(each.in_flight for each in revision(serving).instances), "in flight")
        (old,) = pids(serving)
        os.kill(old, signal.SIGKILL)
        status, reason = await held_call
        assert (status, "connection lost" in reason) == (502, True)
        # The kernel may still accept a connection for the dying process: a 502, too.
        answers = [await call(client, serving)]
        while answers[-1][0] != 200:
            assert answers[-1][0] in {502, 503}
            answers.append(await call(client, serving))
        assert answers[-1][1]["pid"] != old


async def test_a_request_that_no_process_has_seen_goes_to_another_one(
    start: Any, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with start(manifest(scale={"min-scale": "1"})) as serving:
        held_call = asyncio.create_task(call(client, serving, "/held"))
        await until(lambda: any(each.in_flight for each in revision(serving).instances), "in flight")
        (old,) = revision(serving).instances
        # The process closes its port and finishes its request: it lives, and refuses connections.
        os.kill(old.pid, signal.SIGTERM)
        await until(lambda: not _accepts(old.port), "the port refuses")
        status, answer = await call(client, serving)
        assert (status, answer["pid"] == old.pid) == (200, False)
        (tmp_path / "gate").touch()
        assert (await held_call)[0] == 200


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_callers_of_a_process_that_keeps_dying_get_502_or_503_and_never_hang(
    start: Any, client: aiohttp.ClientSession
) -> None:
    async with start(manifest(scale={"min-scale": "1"})) as serving:
        statuses = {(await call(client, serving, "/exit"))[0] for _ in range(6)}
        assert statuses <= {502, 503}
        assert 502 in statuses
        while (status := (await call(client, serving))[0]) != 200:
            assert status in {502, 503}


async def test_a_revision_that_never_starts_takes_no_traffic_and_says_why(
    start: Any, client: aiohttp.ClientSession
) -> None:
    async with start(manifest("good")) as serving:
        serving.apply(parse(manifest("bad", command=["python", "-c", "raise SystemExit(7)"]), "bad.yaml"))
        await until(lambda: "ended with 7" in revision(serving).problem, "a problem")
        with pytest.raises(TimeoutError, match="echo-00002: ended with 7"):
            await serving.until_ready(0)
        assert (await call(client, serving))[1]["colour"] == "good"


async def test_a_revision_that_cannot_start_any_more_refuses_with_503(
    start: Any, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with start(manifest()) as serving:
        await until_zero(serving)
        (tmp_path / "fn.py").write_text("raise SystemExit(7)")
        status, reason = await call(client, serving)
        assert (status, "does not start" in reason) == (503, True)


async def test_a_crash_loop_refuses_at_once_between_its_attempts(
    start: Any, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    # Without time_scale the third backoff is longer than the request timeout of one second.
    async with start(manifest(scale={"min-scale": "1"}, timeoutSeconds=1), time_scale=1) as serving:
        (tmp_path / "fn.py").write_text("raise SystemExit(7)")
        (pid,) = pids(serving)
        os.kill(pid, signal.SIGKILL)
        while (await call(client, serving))[0] != 503:
            pass
        assert (await call(client, serving))[0] == 503


async def test_too_slow_is_504(start: Any, client: aiohttp.ClientSession, tmp_path: Path) -> None:
    async with start(manifest(timeoutSeconds=1)) as serving:
        assert (await call(client, serving, "/held"))[0] == 504
        assert (revision(serving).in_flight, revision(serving).codes["504"]) == (0, 1)
        (tmp_path / "gate").touch()


async def test_waiting_in_the_queue_counts_as_time(
    start: Any, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with start(manifest(timeoutSeconds=1, containerConcurrency=1), max_processes=1) as serving:
        answers = await asyncio.gather(*(call(client, serving, "/held") for _ in range(2)))
        assert [status for status, _ in answers] == [504, 504]
        (tmp_path / "gate").touch()


async def test_over_the_bound_of_the_queue_is_503(
    start: Any, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with start(manifest(containerConcurrency=1), queue_bound=3, max_processes=1) as serving:
        calls = [asyncio.create_task(call(client, serving, "/held")) for _ in range(6)]
        await until(lambda: sum(each.done() for each in calls) == 2, "two refused")
        (tmp_path / "gate").touch()
        statuses = Counter([status for status, _ in await asyncio.gather(*calls)])
        assert statuses == {200: 4, 503: 2}


async def test_a_caller_that_leaves_gives_its_place_back(
    start: Any, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with start(manifest(containerConcurrency=1), max_processes=1) as serving:
        calls = [asyncio.create_task(call(client, serving, "/held")) for _ in range(3)]
        await until(lambda: revision(serving).queued == 2, "queued")
        for call_task in calls:
            call_task.cancel()
        await until(lambda: revision(serving).in_flight == 0, "given back")
        assert (await call(client, serving))[0] == 200
        (tmp_path / "gate").touch()


async def test_a_process_gets_its_signal_only_after_its_last_answer(
    start: Any, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with start(manifest("abrupt")) as serving:
        held_call = asyncio.create_task(call(client, serving, "/held"))
        await until(lambda: any(each.in_flight for each in revision(serving).instances), "in flight")
        stopping = asyncio.create_task(serving.stop())
        await until(lambda: [each.phase for each in revision(serving).instances] == ["draining"], "draining")
        (tmp_path / "gate").touch()
        assert (await held_call)[0] == 200
        await stopping


async def test_stop_lets_what_is_in_flight_end_and_leaves_no_process(
    start: Any, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with start(manifest(scale={"min-scale": "2"})) as serving:
        await until(lambda: len(revision(serving).instances) == 2, "two processes")
        held_call = asyncio.create_task(call(client, serving, "/held"))
        await until(lambda: any(each.in_flight for each in revision(serving).instances), "in flight")
        running = pids(serving)
        stopping = asyncio.create_task(serving.stop())
        await until(lambda: not revision(serving).instances or revision(serving).in_flight == 1, "draining")
        (tmp_path / "gate").touch()
        assert (await held_call)[0] == 200
        await stopping
        assert not any(psutil.pid_exists(pid) for pid in running)


async def test_processes_end_even_where_the_sandbox_is_killed(tmp_path: Path) -> None:
    (tmp_path / "fn.py").write_text(FUNCTION)
    (tmp_path / "echo.yaml").write_text(manifest(scale={"min-scale": "1"}))
    (tmp_path / "sandbox.py").write_text(
        "import asyncio, pathlib\n"
        "from orderflow_sandbox.serving import Serving, ServingOptions, load\n"
        "async def main():\n"
        "    here = pathlib.Path()\n"
        "    async with Serving(ServingOptions(root=here.resolve(), state=here.resolve())) as serving:\n"
        "        serving.apply(load(here / 'echo.yaml'))\n"
        "        await serving.until_ready(20)\n"
        "        print(serving.status()[0].revisions[0].instances[0].pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    sandbox = await asyncio.create_subprocess_exec(
        sys.executable,
        "sandbox.py",
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=asyncio.subprocess.PIPE,
    )
    assert sandbox.stdout is not None
    pid = int(await asyncio.wait_for(sandbox.stdout.readline(), DEADLINE))
    sandbox.kill()
    await sandbox.wait()
    await until(lambda: not runs(pid), "the function's process is gone")


async def test_revisions_and_traffic_survive_a_restart(start: Any, client: aiohttp.ClientSession) -> None:
    async with start(manifest("blue"), manifest("green")) as serving:
        serving.send_traffic("echo", [Target(revision_name="echo-00001", percent=100)])
    async with start() as serving:
        assert not revision(serving).instances
        assert (await call(client, serving))[1]["revision"] == "echo-00001"
        (applied,) = serving.apply(parse(manifest("green"), "echo.yaml"))
        assert (applied.revision, applied.created) == ("echo-00002", False)


async def test_an_answer_streams_as_it_is_written(
    start: Any, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with start(manifest()) as serving:
        port = await serving.listen("echo")
        async with client.get(f"http://127.0.0.1:{port}/stream") as answer:
            assert answer.headers["kne-reason"] == "kept"
            assert await answer.content.readuntil(b"\n\n") == b"data: first\n\n"
            (tmp_path / "gate").touch()
            assert await answer.content.read() == b"data: second\n\n"


async def test_a_stream_is_cut_when_its_time_is_up(
    start: Any, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with start(manifest(timeoutSeconds=1)) as serving:
        port = await serving.listen("echo")
        async with client.get(f"http://127.0.0.1:{port}/stream") as answer:
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
        (tmp_path / "gate").touch()


async def test_a_tag_has_a_name_of_its_own_without_any_percent(
    start: Any, client: aiohttp.ClientSession
) -> None:
    async with start(manifest("blue"), manifest("green")) as serving:
        route = [
            Target(revision_name="echo-00001", percent=100),
            Target(revision_name="echo-00002", percent=0, tag="next"),
        ]
        serving.send_traffic("echo", route)
        assert (await call(client, serving))[1]["colour"] == "blue"
        tagged = await call(client, serving, host=f"next-{HOST}")
        assert tagged[1]["colour"] == "green"


async def test_a_cluster_local_service_is_not_reached_by_an_outside_name(
    start: Any, client: aiohttp.ClientSession
) -> None:
    outside = "echo.orderflow.orderflow.localhost"
    local = {"networking.knative.dev/visibility": "cluster-local"}
    async with start(manifest(labels=local)) as serving:
        assert (await call(client, serving, host=outside))[0] == 404
        assert (await call(client, serving))[0] == 200
        serving.apply(parse(manifest(), "echo.yaml"))
        assert (await call(client, serving, host=f"{outside}:8080"))[0] == 200
        assert (await call(client, serving, host="other.orderflow.svc.cluster.local"))[0] == 404


async def test_headers_and_body_pass_untouched(start: Any) -> None:
    async with start(manifest()) as serving:
        request = (
            b"POST /a%20b?x=1 HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\nce-subject: caf\xe9\r\n"
            b"Kne-Error: yes\r\nTransfer-Encoding: chunked\r\nConnection: close, x-hop\r\n\r\n"
            b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
        head, _, body = (await raw(serving, request)).partition(b"\r\n\r\n")
        answer = json.loads(body)
        headers = dict(answer["headers"])
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert (answer["method"], answer["path"], answer["body"]) == ("POST", "/a b", "abcde")
        assert (headers["ce-subject"], headers["kne-error"]) == ("caf\xe9", "yes")
        assert headers["content-length"] == "5"


async def test_a_tombstone_stays_without_length_and_type(start: Any) -> None:
    async with start(manifest()) as serving:
        request = b"POST / HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\nConnection: close\r\n\r\n"
        _, _, body = (await raw(serving, request)).partition(b"\r\n\r\n")
        assert {name for name, _ in json.loads(body)["headers"]} == {"host"}


async def test_pipelined_requests_are_answered_in_order(start: Any) -> None:
    async with start(manifest()) as serving:
        lines = b"POST /%b HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\nContent-Length: 0\r\n%b\r\n"
        request = lines % (b"turn", b"") + lines % (b"b", b"") + lines % (b"c", b"Connection: close\r\n")
        response = await raw(serving, request)
        order = [response.index(b'"path": "/%b"' % name) for name in (b"turn", b"b", b"c")]
        assert order == sorted(order)


@pytest.mark.parametrize(("method", "path"), [(b"HEAD", b"/"), (b"GET", b"/none")])
async def test_an_answer_without_a_body_ends_with_its_head(start: Any, method: bytes, path: bytes) -> None:
    async with start(manifest()) as serving:
        line = b"%b %b HTTP/1.1\r\nHost: " % (method, path) + HOST.encode() + b"\r\n"
        response = await raw(serving, line + b"\r\n" + line + b"Connection: close\r\n\r\n")
        assert response.count(b"HTTP/1.1 2") == 2
        assert response.endswith(b"\r\n\r\n")
        assert b"{" not in response


async def test_a_caller_without_chunks_gets_its_stream_until_the_end(start: Any, tmp_path: Path) -> None:
    (tmp_path / "gate").touch()
    async with start(manifest()) as serving:
        response = await raw(serving, b"GET /stream HTTP/1.0\r\nHost: " + HOST.encode() + b"\r\n\r\n")
        assert response.endswith(b"\r\n\r\ndata: first\n\ndata: second\n\n")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: echo\r\nContent-Length: 99\r\n\r\n" + b"x" * 99, b"413"),
        (b"GET / HTTP/1.1\r\nHost: echo\r\nlong: " + b"x" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: echo\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", b"501"),
    ],
)
async def test_what_cannot_be_passed_on_is_refused(start: Any, request_bytes: bytes, status: bytes) -> None:
    async with start(body_bound=50) as serving:
        assert (await raw(serving, request_bytes)).startswith(b"HTTP/1.1 " + status)


async def test_a_log_does_not_outgrow_its_bound(start: Any, client: aiohttp.ClientSession) -> None:
    async with start(manifest(scale={"min-scale": "1"}), log_bound=2000) as serving:
        log = Path(revision(serving).log)
        for _ in range(100):
            await call(client, serving)
        await until(lambda: log.stat().st_size <= 2000, "the log is cut")
        assert log.with_name(f"{log.name}.1").stat().st_size > 2000


async def test_another_process_applies_and_moves_traffic_with_the_token_only(
    start: Any, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with start(manifest("blue")) as serving:
        file = tmp_path / "state" / "control.json"
        assert file.stat().st_mode & 0o077 == 0
        control = json.loads(file.read_text())
        async with client.get(f"{control['control']}/status") as answer:
            assert answer.status == 401
        headers = {"Authorization": f"Bearer {control['token']}"}
        async with client.post(
            f"{control['control']}/apply?file=new.yaml", data=manifest("green"), headers=headers
        ) as answer:
            assert (await answer.json())[0]["revision"] == "echo-00002"
        await serving.until_ready(DEADLINE)
        split = [{"revisionName": "echo-00001", "percent": 30}, {"percent": 70}]
        async with client.post(f"{control['control']}/traffic/echo", json=split, headers=headers) as answer:
            assert [each["percent"] for each in await answer.json()] == [30, 70]
        async with client.post(
            f"{control['control']}/traffic/echo", json=split[:1], headers=headers
        ) as answer:
            assert (answer.status, "sum to 30" in await answer.text()) == (422, True)
        async with client.get(f"{control['control']}/status", headers=headers) as answer:
            assert [each["percent"] for each in (await answer.json())[0]["revisions"]] == [30, 70]


async def test_a_service_without_its_values_is_refused_and_not_applied(start: Any) -> None:
    text = manifest().replace("value: none", "valueFrom: {secretKeyRef: {name: db, key: url}}")
    async with start() as serving:
        with pytest.raises(ManifestError, match="COLOUR: Secret db"):
            serving.apply(parse(text, "echo.yaml"))
        assert serving.status() == []
