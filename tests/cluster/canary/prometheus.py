"""A Prometheus on this machine that scrapes the queue-proxies of one namespace's pods."""

import json
import os
import shutil
import signal
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Self

import yaml

from orderflow.sandbox.servers.child import Child, Step
from tests.cluster.kube import ClusterError, run
from tests.cluster.servers import free_port

_QUEUE_PROXY_PORT = "9091"
_SECONDS = 30.0


def look_for_metrics() -> None:
    """Raises ClusterError where the cluster's queue-proxies count nothing for Prometheus."""
    found = json.loads(
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
    if found.get("data", {}).get("request-metrics-protocol") != "prometheus":
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

    def __enter__(self) -> Self:
        look_for_metrics()
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
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stop(Step(signal.SIGTERM, 10.0))

    def ask(self, query: str) -> list[dict[str, Any]]:
        asked = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(asked, timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found

    def _ready(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/-/ready", timeout=1).close()
        except OSError:
            return False
        return True

    def _config(self) -> dict[str, Any]:
        pods = {
            "role": "pod",
            "kubeconfig_file": os.environ["KUBECONFIG"],
            "namespaces": {"names": [self._namespace]},
        }
        port = "__meta_kubernetes_pod_container_port_number"
        job = {
            "job_name": "queue-proxy",
            "kubernetes_sd_configs": [pods],
            "relabel_configs": [{"source_labels": [port], "regex": _QUEUE_PROXY_PORT, "action": "keep"}],
        }
        return {"global": {"scrape_interval": "2s"}, "scrape_configs": [job]}
