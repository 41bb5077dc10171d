"""A Prometheus on this machine that scrapes the queue-proxies of one namespace's pods."""

import contextlib
import json
import os
import shutil
import signal
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Self

import yaml
from kubernetes.client import CoreV1Api
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from knrollout.cluster.connection import open_client
from orderflow_sandbox.servers.child import Child, Step
from tests.cluster.kube import ClusterError, run
from tests.cluster.servers import free_port

_PORT = 9091
"""The port of the queue-proxy's request metrics."""
_SECONDS = 60.0
_LOOK_SECONDS = 2.0


def require_queue_proxy_metrics() -> None:
    """Raises ClusterError where the cluster's queue-proxies export no request metrics for Prometheus."""
    config_map = json.loads(
        run(
            [
                "kubectl",
                "--namespace=knative-serving",
                "get",
                "configmap",
                "config-observability",
                "-o",
                "json",
            ]
        )
    )
    if config_map.get("data", {}).get("request-metrics-protocol") != "prometheus":
        raise ClusterError(
            "the analyses need the queue-proxies' metrics: kubectl --namespace knative-serving patch configmap "
            """config-observability --type merge --patch '{"data":{"request-metrics-protocol":"prometheus"}}'"""
        )


class Prometheus:
    """Use as a context manager. host is an address of this machine that pods reach."""

    def __init__(self, folder: Path, host: str, namespace: str) -> None:
        self._folder = folder
        self.url = f"http://{host}:{free_port(host)}"
        self._namespace = namespace
        self._targets = folder / "targets.json"
        self._ended = threading.Event()
        self._targets_thread = threading.Thread(target=self._write_targets, daemon=True)

    def __enter__(self) -> Self:
        require_queue_proxy_metrics()
        program = shutil.which("prometheus")
        if program is None:
            raise ClusterError("prometheus is not on the PATH; Debian's package of that name has it")
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "prometheus.yml"
        config.write_text(yaml.safe_dump(self._config()))
        self._child = Child(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address={self.url.removeprefix('http://')}",
            ],
            console=self._folder / "prometheus.log",
            on_orphaned=signal.SIGTERM,
            env=dict(os.environ),
        )
        deadline = time.monotonic() + _SECONDS
        while not self._ready():
            if time.monotonic() > deadline or not self._child.alive:
                raise ClusterError(
                    "Prometheus did not start: " + (self._folder / "prometheus.log").read_text()
                )
            time.sleep(0.1)
        self._targets_thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._targets_thread.join()
        self._child.stop(Step(signal.SIGTERM, 10.0))

    def expression(self, expression: str) -> list[dict[str, Any]]:
        address = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.urlopen(address, timeout=10) as response:
            result: list[dict[str, Any]] = json.load(response)["data"]["result"]
        return result

    def _ready(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/-/ready", timeout=1).close()
        except OSError:
            return False
        return True

    def _write_targets(self) -> None:
        """Writes the pods' addresses to a file of targets, because Debian's build of Prometheus has no discovery by
        Kubernetes."""
        core = CoreV1Api(open_client())
        written_addresses = None
        while not self._ended.wait(_LOOK_SECONDS):
            with contextlib.suppress(ApiException, HTTPError):
                pods = core.list_namespaced_pod(
                    self._namespace, label_selector="serving.knative.dev/revision", _request_timeout=10
                ).items
                addresses = sorted(f"{pod.status.pod_ip}:{_PORT}" for pod in pods if pod.status.pod_ip)
                if addresses != written_addresses:
                    partial = self._targets.with_suffix(".partial")
                    partial.write_text(json.dumps([{"targets": addresses}]))
                    partial.replace(self._targets)
                    written_addresses = addresses

    def _config(self) -> dict[str, Any]:
        discovery = {"files": [str(self._targets)], "refresh_interval": "5s"}
        job = {"job_name": "queue-proxy", "file_sd_configs": [discovery]}
        return {"global": {"scrape_interval": "2s", "scrape_timeout": "2s"}, "scrape_configs": [job]}
