"""Applies an overlay with the image that was pushed, by its digest, and waits: `make deploy-staging`, `-production`.

The overlay is changed in a copy under build/deploy, never in the checkout, and has to pass the same checks as
`make deployable`. What Kubernetes applies, it may apply again: a deployment that broke off is repeated whole.

A shop that differs from knative/overlays and argo/rollouts keeps a folder of its own, which SITE names: `staging/` and
`production/` in it are kustomizations over `../../knative/overlays/...`, `rollouts/` one over `../../argo/rollouts`.
Each may be left out. The folder is laid into the copy as build/deploy/site. The namespace is that of the overlay's
Services.

In staging it waits until all Services are ready. In production the stages with a KnativeRollout come by steps: it waits
for each, and where one was taken back it says which analysis failed. Exit code 0: all of it is out; 1: it is not, or
was taken back; 2: a tool or a setting is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from pipeline.commands import NotReadyError, ask, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.commands import Ask, Run

ROLLED_OUT: Final = ("notify", "track", "validate")
"""Stages with a KnativeRollout, the last of the way first."""
ROLLOUT_TIMEOUT: Final = "3h"
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_COPY: Final = Path("build/deploy")
_STATUS: Final = Path("build/rollouts")


class NotDeployedError(Exception):
    """The message says at which step."""


def pushed(metadata: Path) -> str:
    """The digest that buildx wrote down when it pushed. Raises NotReadyError."""
    try:
        digest = json.loads(metadata.read_bytes())["containerimage.digest"]
    except (OSError, ValueError, KeyError):
        raise NotReadyError(f"{metadata} names no digest; `make image-push` writes it") from None
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise NotReadyError(f"{metadata}: this is no digest: {digest!r}")
    return digest


def deploy(environment: str, image: str, site: Path | None, execute: Run, ask: Ask) -> None:
    """Raises NotDeployedError, and NotReadyError. Steps go in this order, and none goes after one that failed."""
    overlay, rollouts = _copied(environment, site)

    def step(what: str, *command: str) -> None:
        if execute(command) != 0:
            raise NotDeployedError(what)

    step(
        "the image could not be set",
        "make",
        "--no-print-directory",
        "set-image",
        f"OVERLAY={overlay}",
        f"TO={image}",
    )
    step("the overlay may not be applied", sys.executable, "-m", "tests.manifests", str(overlay))
    namespace = namespace_of(ask(["kubectl", "kustomize", str(overlay)]))
    here = ("--namespace", namespace)
    step("the last migration's job stays", "kubectl", "delete", "job", "migrate", *here, "--ignore-not-found")
    first = ("--selector", "orderflow.dev/apply=first")
    step("what must be first was not applied", "kubectl", "apply", "--kustomize", str(overlay), *first)
    waits = ("--for", "condition=complete", "--timeout", "30m")
    step("the migration did not come to its end", "kubectl", "wait", "job/migrate", *here, *waits)
    if environment == "production":
        step("the rollouts were not applied", "kubectl", "apply", "--kustomize", str(rollouts), *here)
    step("not everything was applied", "kubectl", "apply", "--kustomize", str(overlay))
    if environment == "production":
        _watch_rollouts(namespace, execute, ask)
    ready = ("--for", "condition=Ready", "--timeout", "10m")
    step("not every Service is ready", "kubectl", "wait", "ksvc", "--all", *here, *ready)


def _copied(environment: str, site: Path | None) -> tuple[Path, Path]:
    """The overlay and the rollouts, in the copy."""
    shutil.rmtree(_COPY, ignore_errors=True)
    for folder in ("knative", "argo"):
        shutil.copytree(folder, _COPY / folder)
    # The overlay local takes a file from there.
    shutil.copytree("examples", _COPY / "examples", ignore=shutil.ignore_patterns("storefront"))
    overlay, rollouts = _COPY / "knative/overlays" / environment, _COPY / "argo/rollouts"
    if site is None:
        return overlay, rollouts
    if not site.is_dir():
        raise NotReadyError(f"SITE={site} is no folder")
    shutil.copytree(site, _COPY / "site")
    own, own_rollouts = _COPY / "site" / environment, _COPY / "site/rollouts"
    return (own if own.is_dir() else overlay), (own_rollouts if own_rollouts.is_dir() else rollouts)


def namespace_of(manifests: bytes) -> str:
    """The one in which the Services of an overlay are. Raises NotDeployedError where that is not one."""
    try:
        documents = [each for each in yaml.safe_load_all(manifests) if each]
        found = {each["metadata"].get("namespace") for each in documents if _is_knative(each)}
    except (yaml.YAMLError, KeyError, TypeError):
        raise NotDeployedError("the overlay's manifests cannot be read") from None
    if len(found) != 1 or not (namespace := found.pop()):
        raise NotDeployedError("the overlay's Services are not all in one namespace")
    return str(namespace)


def _is_knative(document: dict[str, object]) -> bool:
    return document["kind"] == "Service" and str(document["apiVersion"]).startswith("serving.knative.dev/")


def _watch_rollouts(namespace: str, execute: Run, ask: Ask) -> None:
    """Every one is waited for, though one has failed: what became of each is wanted."""
    here = ("--namespace", namespace)
    failed = [
        name
        for name in ROLLED_OUT
        if execute(["kn-rollout", "status", name, *here, "--timeout", ROLLOUT_TIMEOUT]) != 0
    ]
    _STATUS.mkdir(parents=True, exist_ok=True)
    told = []
    for name in failed:
        execute(["kn-rollout", "get", name, *here])
        standing = ask(["kn-rollout", "status", name, *here, "--no-watch", "--output", "json"])
        (_STATUS / f"{name}.json").write_bytes(standing)
        told.append(f"{name}: {_why(standing)}")
    (_STATUS / "verdict").write_text("".join(f"{line}\n" for line in told or ["rolled out"]))
    if failed:
        raise NotDeployedError(f"not rolled out, so what was stable has the traffic: {'; '.join(told)}")


def _why(standing: bytes) -> str:
    """The phase and the controller's message, which names the analysis that failed."""
    try:
        document = json.loads(standing)
        return f"{document['phase']}: {document['message']}"
    except (ValueError, KeyError, TypeError):
        return "the cluster does not say how it stands"


def main(arguments: Sequence[str] | None = None, execute: Run = run, ask: Ask = ask) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.deploy", description=__doc__)
    parser.add_argument("environment", choices=("staging", "production"))
    parser.add_argument("--image", required=True, help="the repository, without tag or digest")
    parser.add_argument("--metadata", type=Path, default=Path("build/image.json"))
    given = parser.parse_args(arguments)
    try:
        if not os.environ.get("KUBECONFIG"):
            raise NotReadyError("KUBECONFIG is not set: no cluster is deployed to by accident")  # noqa: TRY301
        site = Path(os.environ["SITE"]) if os.environ.get("SITE") else None
        deploy(given.environment, f"{given.image}@{pushed(given.metadata)}", site, execute, ask)
    except NotReadyError as error:
        sys.stderr.write(f"deploy: {error}\n")
        return 2
    except NotDeployedError as error:
        sys.stderr.write(f"deploy: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
