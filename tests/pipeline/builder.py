"""BuildKit's daemon, which builds and pushes the image with its attestations.

Debian's docker engine cannot attest, and a buildx builder in a container needs an image from Docker Hub.
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
    """Use as a context manager. `settings` is docker's folder for logins and plug-ins, DOCKER_CONFIG.

    The argument `base` is an image of Python. Where the engine has that image, it is pushed to the registry, and the
    attribute `base` names it there by its digest. The image `generator` makes the SBOM: it is syft in the same base,
    because BuildKit's own generator is an image on Docker Hub.
    """

    def __init__(
        self, folder: Path, registry: Registry, tools: dict[str, str], base: str, docker: str
    ) -> None:
        self._folder = folder
        self._registry = registry
        self._tools = tools
        self._docker = docker
        self._original_base = base
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
            self._wait_until_up()
            self.login()
            self.base = self._push_base()
            self.generator = self._push_generator()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stop(Step(signal.SIGTERM, 20.0))
        shutil.rmtree(self._folder / "state", ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """The variables of an agent for `make image` and `make image-push`."""
        return {
            "DOCKER": self._docker,
            "DOCKER_CONFIG": str(self.settings),
            "REGISTRY": self._registry.address,
            "BASE": self.base,
            "BUILDER": self.name,
            "SBOM": f"generator={self.generator}",
        }

    def save_attestations(self, image: str, folder: Path) -> None:
        """Writes the SBOM and the provenance of a pushed image to files. Raises ClusterError where one is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        for kind in ("SBOM", "Provenance"):
            template = f"{{{{ json .{kind} }}}}"
            attestation = self._call("buildx", "imagetools", "inspect", image, "--format", template)
            if not json.loads(attestation):
                raise ClusterError(f"{image} has no {kind} attested")
            (folder / f"{kind.lower()}.json").write_text(attestation)

    def _call(self, *arguments: str, stdin: str | None = None) -> str:
        environment = os.environ | {"DOCKER_CONFIG": str(self.settings), "DOCKER_BUILDKIT": "1"}
        process = subprocess.run(
            [self._docker, *arguments],
            input=stdin,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode:
            raise ClusterError(f"docker {' '.join(arguments)}: {process.stderr.strip()}")
        return process.stdout

    def _wait_until_up(self) -> None:
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
        """Logs in to the registry, at the start and again after a build that has logged out."""
        self._call(
            *("login", "--username", self._registry.user, "--password-stdin", self._registry.address),
            stdin=self._registry.password,
        )

    def _push_base(self) -> str:
        """Returns the base by its digest. BuildKit pulls a base that the engine does not have from its own registry."""
        try:
            self._call("image", "inspect", self._original_base)
        except ClusterError:
            return self._original_base
        name = f"{self._registry.address}/base"
        self._call("tag", self._original_base, name)
        self._call("push", name)
        digests = json.loads(self._call("image", "inspect", name))[0]["RepoDigests"]
        return next(digest for digest in digests if digest.startswith(f"{name}@"))

    def _push_generator(self) -> str:
        context = self._folder / "generator"
        context.mkdir()
        shutil.copy(self._tools["syft"], context / "syft")
        shutil.copy(_SCAN, context)
        (context / "Dockerfile").write_text(_GENERATOR.format(base=self.base))
        name = f"{self._registry.address}/sbom-generator"
        self._call("buildx", "build", "--builder", _NAME, "--push", "--tag", name, str(context))
        return name
