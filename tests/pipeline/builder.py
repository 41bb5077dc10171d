"""Who builds and pushes the image with its attestations: BuildKit's own daemon.

A docker engine of Debian's cannot attest, and a builder in a container needs an image of Docker Hub.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final, Self

from orderflow_sandbox.servers.child import Child, Step
from tests.cluster.kube import ClusterError
from tests.pipeline.registry import Registry

_NAME: Final = "orderflow"
_SECONDS: Final = 60.0
_SCAN: Final = Path(__file__).with_name("scan.py")
_GENERATOR: Final = """\
FROM {base}
COPY syft scan.py /
CMD ["python3", "/scan.py"]
"""


class Builder:
    """Use as a context manager. settings is where docker's client keeps logins and plug-ins: DOCKER_CONFIG.

    base is an image of Python; where the engine has it, it is pushed, and `base` is its digest in the registry then.
    generator makes the SBOM: BuildKit's own is an image of Docker Hub, so this one is syft in the same base.
    """

    def __init__(
        self, folder: Path, registry: Registry, tools: dict[str, str], base: str, docker: str
    ) -> None:
        self._folder = folder
        self._registry = registry
        self._tools = tools
        self._docker = docker
        self._given = base
        self.name = _NAME
        self.settings = folder / "docker"

    def __enter__(self) -> Self:
        plugins = self.settings / "cli-plugins"
        plugins.mkdir(parents=True)
        (plugins / "docker-buildx").symlink_to(self._tools["buildx"])
        config = self._folder / "buildkitd.toml"
        config.write_text(f'[registry."{self._registry.address}"]\nhttp = true\n')
        address = f"unix://{self._folder / 'buildkitd.sock'}"
        self._child = Child(
            [
                *(self._tools["buildkitd"], "--config", str(config), "--addr", address),
                *("--root", str(self._folder / "state")),
                *("--containerd-worker=false", "--oci-worker-net=host"),
            ],
            console=self._folder / "buildkitd.log",
            on_orphaned=signal.SIGTERM,
        )
        try:
            self._call("buildx", "create", "--name", _NAME, "--driver", "remote", address)
            self._until_up()
            self.login()
            self.base = self._pushed_base()
            self.generator = self._pushed_generator()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stop(Step(signal.SIGTERM, 20.0))
        shutil.rmtree(self._folder / "state", ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """For `make image` and `make image-push`, as an agent has it."""
        return {
            "DOCKER": self._docker,
            "DOCKER_CONFIG": str(self.settings),
            "REGISTRY": self._registry.address,
            "BASE": self.base,
            "BUILDER": self.name,
            "SBOM": f"generator={self.generator}",
        }

    def attested(self, image: str, folder: Path) -> None:
        """What was attested with the image when it was pushed, as files. Raises ClusterError where it was not."""
        folder.mkdir(parents=True, exist_ok=True)
        for kind in ("SBOM", "Provenance"):
            template = f"{{{{ json .{kind} }}}}"
            told = self._call("buildx", "imagetools", "inspect", image, "--format", template)
            if not json.loads(told):
                raise ClusterError(f"{image} has no {kind} attested")
            (folder / f"{kind.lower()}.json").write_text(told)

    def _call(self, *arguments: str, given: str | None = None) -> str:
        environment = os.environ | {"DOCKER_CONFIG": str(self.settings), "DOCKER_BUILDKIT": "1"}
        done = subprocess.run(
            [self._docker, *arguments],
            input=given,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ClusterError(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def _until_up(self) -> None:
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                self._call("buildx", "inspect", _NAME, "--bootstrap")
            except ClusterError:
                if not self._child.alive or time.monotonic() > deadline:
                    log = (self._folder / "buildkitd.log").read_text()[-500:]
                    raise ClusterError(f"buildkitd did not start: {log}") from None
                time.sleep(0.2)
            else:
                return

    def login(self) -> None:
        """Again, where a build has logged out."""
        self._call(
            *("login", "--username", self._registry.user, "--password-stdin", self._registry.address),
            given=self._registry.password,
        )

    def _pushed_base(self) -> str:
        """By its digest. What the engine does not have is left to be pulled from where it is."""
        try:
            self._call("image", "inspect", self._given)
        except ClusterError:
            return self._given
        there = f"{self._registry.address}/base"
        self._call("tag", self._given, there)
        self._call("push", there)
        found = json.loads(self._call("image", "inspect", there))[0]["RepoDigests"]
        return next(digest for digest in found if digest.startswith(f"{there}@"))

    def _pushed_generator(self) -> str:
        context = self._folder / "generator"
        context.mkdir()
        shutil.copy(self._tools["syft"], context / "syft")
        shutil.copy(_SCAN, context)
        (context / "Dockerfile").write_text(_GENERATOR.format(base=self.base))
        name = f"{self._registry.address}/sbom-generator"
        self._call("buildx", "build", "--builder", _NAME, "--push", "--tag", name, str(context))
        return name
