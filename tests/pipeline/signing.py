"""A signing key for the run, and the verification of its signatures."""

import json
import os
import secrets
import subprocess
from pathlib import Path

from tests.cluster.kube import ClusterError


class Signing:
    """`signing_config` has no public log, so that no signature of this run is published."""

    def __init__(self, folder: Path, cosign: Path, settings: Path) -> None:
        folder.mkdir(parents=True)
        self._cosign = cosign
        self._settings = settings
        self.password = secrets.token_urlsafe(24)
        self.signing_config = folder / "signing-config.json"
        self._call("signing-config", "create", "--out", str(self.signing_config))
        self._call("generate-key-pair", "--output-key-prefix", str(folder / "cosign"))
        self.key = (folder / "cosign.key").read_bytes()
        self._public = folder / "cosign.pub"

    def verify(self, image: str) -> str:
        """Raises ClusterError where the key has not signed the image, which is named by its digest, and its SBOM."""
        key = ("--key", str(self._public), "--insecure-ignore-tlog=true")
        self._call("verify", *key, image)
        attestation = self._call("verify-attestation", *key, "--type", "cyclonedx", image)
        if not json.loads(attestation.splitlines()[0]).get("payload"):
            raise ClusterError(f"{image}: its attestation is empty")
        return "signature and CycloneDX attestation hold by the run's key"

    def _call(self, *arguments: str) -> str:
        environment = os.environ | {"COSIGN_PASSWORD": self.password, "DOCKER_CONFIG": str(self._settings)}
        command = [str(self._cosign), *arguments]
        process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if process.returncode:
            raise ClusterError(f"cosign {arguments[0]}: {process.stderr.strip()}")
        return process.stdout
