"""The process that bench.front measures: `front_process.py ROOT FOLDER CORE`, ROOT being the checkout it runs.

It prints the port of a front with one Service. Then each line `REQUESTS IN_FLIGHT` on its stdin makes it POST so many
requests with delivery's client straight to the Service's process, and it prints the CPU time of one, in microseconds.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvloop

SERVICE = """\
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {{name: answer}}
spec:
  template:
    metadata:
      annotations: {{autoscaling.knative.dev/min-scale: "1"}}
    spec:
      containers:
        - image: none
          env: [{{name: CORE, value: "{core}"}}]
          command: [python, -m, uvicorn, "answer:app", --host, 0.0.0.0, --port, "8080"]
          args: [--loop, uvloop, --http, httptools, --no-access-log, --timeout-keep-alive, "120"]
"""
HEAD = b"ce-id: 1\r\nce-source: /bench\r\nce-specversion: 1.0\r\nce-type: bench\r\ncontent-length: 900\r\n"
BODY = b"x" * 900


def measured(root: Path) -> SimpleNamespace:
    """The classes of this checkout; in revisions before the sandbox was a package of its own they have other names."""
    package = "orderflow_sandbox" if (root / "orderflow_sandbox").is_dir() else "orderflow.sandbox"
    client = (
        "sink_client"
        if (root / package.replace(".", "/") / "delivery/sink_client.py").is_file()
        else "connection"
    )
    return SimpleNamespace(
        serving=import_module(f"{package}.serving"),
        parse=import_module(f"{package}.serving.manifest").parse,
        Sink=import_module(f"{package}.delivery.sinks").Sink,
        SinkClient=import_module(f"{package}.delivery.{client}").SinkClient,
    )


async def serve(root: Path, folder: Path, core: str) -> None:
    code = measured(root)
    state = folder / f"state-{os.getpid()}"
    path = {"PATH": os.environ["PATH"]}
    options = code.serving.ServingOptions(root=folder, state=state, max_processes=1, environ=path)
    async with code.serving.Serving(options) as serving:
        serving.apply(code.parse(SERVICE.format(core=core), "answer"))
        await serving.until_ready(60)
        print(await serving.listen("answer"), flush=True)
        port = serving.status()[0].revisions[0].instances[0].port
        sink = code.Sink(f"http://127.0.0.1:{port}", "127.0.0.1", port, tls=False, authority="x", path="/")
        client = code.SinkClient(sink, namespace="default")
        while line := await asyncio.to_thread(sys.stdin.readline):
            requests, in_flight = map(int, line.split())
            print(await cpu_of_a_post(client, requests, in_flight), flush=True)
        client.close()


async def cpu_of_a_post(client: Any, requests: int, in_flight: int) -> float:  # noqa: ANN401 - of any revision
    async def post(count: int) -> None:
        for _ in range(count):
            answer = await client.post(HEAD, BODY, 30.0)
            if answer.status != 202:
                raise RuntimeError(f"answered with {answer.status}")

    before = time.process_time()
    await asyncio.gather(*(post(requests // in_flight) for _ in range(in_flight)))
    return 1e6 * (time.process_time() - before) / (requests // in_flight * in_flight)


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
