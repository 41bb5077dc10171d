"""What a run needs that is no Python package, and where each comes from."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from orderflow_sandbox.sandbox import ROOT

BUILT: Final = ROOT / "build/tools"
"""Where `make pipeline-tools` puts what it builds."""
GO: Final = ("buildkitd", "buildx", "cosign", "syft")
OTHERS: Final[Mapping[str, str]] = {
    "git": "Debian's package of that name",
    "make": "Debian's package of that name",
    "node": "Node 20",
    "npm": "Node 20",
    "docker": "docker's client, with an engine that it reaches",
    "docker-registry": "Debian's package of that name",
    "htpasswd": "Debian's package apache2-utils",
    "runc": "Debian's package of that name; buildkitd runs the image's build by it",
    "kubectl": "the cluster's version",
    "prometheus": "Debian's package of that name",
    "setsid": "Debian's package util-linux",
}


def missing(docker: str) -> list[str]:
    """A sentence for each tool that is not there. docker is the client's command."""
    wanted = {docker if name == "docker" else name: whence for name, whence in OTHERS.items()}
    found = [f"{name}: {whence}" for name, whence in wanted.items() if shutil.which(name) is None]
    return found + [f"{name}: `make pipeline-tools` builds it" for name in GO if not (BUILT / name).exists()]


def laid_out(folder: Path) -> Path:
    """What the agents have on their PATH before all else. Snyk's command is the stand-in."""
    folder.mkdir(parents=True)
    (folder / "cosign").symlink_to(BUILT / "cosign")
    (folder / "snyk").symlink_to(Path(__file__).parent / "stand_in/snyk")
    return folder
