"""A real Prometheus on loopback that scrapes one address, and its HTTP API."""

import contextlib
import subprocess
import time
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from orderflow_sandbox.address import free_port
from support.programs import program

START_SECONDS = 60


class Prometheus:
    def __init__(self, folder: Path, scrapes: list[dict[str, Any]], rules: dict[str, Any]) -> None:
        self._folder = folder
        (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
        (folder / "prometheus.yaml").write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": ["rules.yaml"],
                    "scrape_configs": scrapes,
                }
            )
        )
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{free_port()}", timeout=30)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.base_url.port}"

    def __enter__(self) -> Self:
        address = f"127.0.0.1:{self._http.base_url.port}"
        command = [program("prometheus", required="REQUIRE_PROMETHEUS")]
        command += ["--config.file=prometheus.yaml", "--storage.tsdb.path=data"]
        command += [f"--web.listen-address={address}", "--log.level=warn"]
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(httpx.TransportError):
                if self._http.get("/-/ready").status_code == 200:
                    return self
            assert self._process.poll() is None, (self._folder / "prometheus.log").read_text()
            assert time.monotonic() < deadline, "Prometheus did not start"
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self._http.close()
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    def get(self, path: str, **parameters: str) -> Any:
        answer = self._http.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def ask(self, query: str) -> list[dict[str, Any]]:
        series: list[dict[str, Any]] = self.get("query", query=query)["result"]
        return series
