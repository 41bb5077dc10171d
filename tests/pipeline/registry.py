"""A registry of images on this machine. It needs a login, like Docker Hub."""

import secrets
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final, Self

import yaml

from orderflow_sandbox.servers.child import Child, Step
from tests.cluster.kube import ClusterError
from tests.cluster.servers import free_port

_SECONDS: Final = 30.0
_UNAUTHORIZED: Final = 401


class Registry:
    """Use as a context manager: Debian's docker-registry, over plain HTTP.

    docker and the cluster's nodes must accept `host` without TLS. They do for loopback, where this machine is the node.
    """

    user: Final = "pipeline"

    def __init__(self, folder: Path, host: str) -> None:
        self._folder = folder
        self.address = f"{host}:{free_port(host)}"
        self.password = secrets.token_urlsafe(24)

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True)
        passwords = self._folder / "htpasswd"
        process = subprocess.run(
            ["htpasswd", "-niB", self.user], input=self.password, capture_output=True, text=True, check=True
        )
        passwords.touch(mode=0o600)
        passwords.write_text(process.stdout)
        config = self._folder / "config.yml"
        config.write_text(yaml.safe_dump(self._config(passwords)))
        self._child = Child(
            [str(shutil.which("docker-registry")), "serve", str(config)],
            console=self._folder / "registry.log",
            on_orphaned=signal.SIGTERM,
        )
        deadline = time.monotonic() + _SECONDS
        while not self._requires_login():
            if not self._child.alive or time.monotonic() > deadline:
                raise ClusterError(
                    f"the registry did not start: {(self._folder / 'registry.log').read_text()[-500:]}"
                )
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stop(Step(signal.SIGTERM, 10.0))

    def _requires_login(self) -> bool:
        """Whether the registry is up, and refuses a request without a login."""
        try:
            urllib.request.urlopen(f"http://{self.address}/v2/", timeout=2).close()
        except urllib.error.HTTPError as error:
            return error.code == _UNAUTHORIZED
        except OSError:
            return False
        return False

    def _config(self, passwords: Path) -> dict[str, object]:
        return {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self._folder / "images")}},
            "http": {"addr": self.address},
            "auth": {"htpasswd": {"realm": "orderflow", "path": str(passwords)}},
        }
