"""Command line: `python -m orderflow_sandbox.delivery --manifests kafka-source/base ...`.

On SIGTERM and SIGINT it drains what is in flight, commits and exits. Log lines are JSON on stderr. The line `ready` has
the address of the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

import uvloop
import yaml

from orderflow import logs
from orderflow.errors import BadSettingsError
from orderflow.version import add_option
from orderflow_sandbox.delivery.manifest import KafkaSource, read_manifests
from orderflow_sandbox.delivery.process import Options, deliver
from orderflow_sandbox.delivery.sinks import CLUSTER_ADDRESS, Resolver, resolver


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    logs.configure(options.log_level.upper(), stage="delivery")
    try:
        sources = _select(read_manifests(options.manifests), options.only)
        resolve = resolver(
            namespace=options.namespace,
            sink_url=options.sink_url,
            host_template=options.host_template,
            sinks=dict(options.sink),
        )
        uvloop.run(_run(sources, resolve, options))
    except BadSettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


async def _run(sources: list[KafkaSource], resolve: Resolver, options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await deliver(
        sources,
        resolve,
        Options(
            namespace=options.namespace,
            bootstrap=options.bootstrap,
            max_poll_records=options.max_poll_records,
            grace=options.grace_seconds,
            kafka=options.kafka_config or {},
        ),
        stop=stop,
        stats=(options.metrics_host, options.metrics_port),
    )


def _select(sources: list[KafkaSource], only: list[str] | None) -> list[KafkaSource]:
    if only is None:
        return sources
    names = {source.metadata.name for source in sources}
    unknown = [name for name in only if name not in names]
    if unknown:
        raise BadSettingsError(f"--only: no KafkaSource named {', '.join(unknown)}")
    return [source for source in sources if source.metadata.name in only]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m orderflow_sandbox.delivery",
        description="Delivers Kafka records to functions as Knative's KafkaSource does.",
    )
    add_option(parser)
    add = parser.add_argument
    add("--manifests", type=Path, required=True, help="folder of KafkaSource YAML files")
    add("--bootstrap", help="HOST:PORT that replaces the manifests' bootstrapServers")
    add("--namespace", default="default", help="of sources that do not name one")
    add("--only", type=lambda text: text.split(","), help="names of sources, comma-separated")
    add("--sink-url", default=CLUSTER_ADDRESS, help="address of a Service: {name}, {namespace}")
    add("--host-template", help="Host header where --sink-url is an ingress: {name}, {namespace}")
    add(
        "--sink",
        type=_pair,
        action="append",
        default=[],
        metavar="NAME=URL",
        help="address of one Service, without the ingress",
    )
    add("--max-poll-records", type=int, default=500, help="the data plane's max.poll.records")
    add("--grace-seconds", type=float, default=30.0, help="time for what is in flight at SIGTERM")
    add("--kafka-config", type=_mapping, metavar="FILE", help="YAML of librdkafka settings")
    add("--metrics-host", default="127.0.0.1")
    add("--metrics-port", type=int, default=0, help="of GET /stats; 0 takes a free one")
    add("--log-level", choices=["debug", "info", "warning", "error"], default="info")
    return parser


def _pair(text: str) -> tuple[str, str]:
    name, separator, url = text.partition("=")
    if not separator or not name or not url:
        raise argparse.ArgumentTypeError("needs NAME=URL")
    return name, url


def _mapping(text: str) -> dict[str, object]:
    try:
        settings = yaml.safe_load(Path(text).read_text("utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error
    if not isinstance(settings, dict):
        raise argparse.ArgumentTypeError(f"{text}: needs NAME: VALUE lines")
    return settings


if __name__ == "__main__":
    sys.exit(main())
