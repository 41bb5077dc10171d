"""Applies an overlay with the pushed image, by its digest, and waits: `make deploy-staging`, `make deploy-production`.

The overlay is copied to build/deploy and the image is set in the copy. The copy must pass the checks of `make
deployable`. `kubectl apply` is idempotent: repeat a deployment that broke off from the start.

A shop with changes to knative/overlays or argo/rollouts keeps them in a folder of its own, and SITE names that folder.
In it, `staging/` and `production/` are kustomizations over `../../knative/overlays/...`, and `rollouts/` is one over
`../../argo/rollouts`. Each may be missing. The folder is copied to build/deploy/site. The namespace is that of the
overlay's Services.

In staging the command waits until all Services are ready. In production the stages with a KnativeRollout get traffic
step by step: the command waits for each rollout, and prints which analysis failed where one was aborted. Exit code 0:
everything is deployed; 1: a step failed or a rollout was aborted; 2: a program or a setting is missing.
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

from pipeline.commands import NotReadyError, capture, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.commands import Capture, Run

ROLLED_OUT: Final = ("notify", "track", "validate")
"""Stages with a KnativeRollout. The last stage of the flow comes first."""
ROLLOUT_TIMEOUT: Final = "3h"
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_COPY: Final = Path("build/deploy")
_STATUS: Final = Path("build/rollouts")


class NotDeployedError(Exception):
    """The message names the step that failed."""


def pushed_digest(metadata: Path) -> str:
    """The digest in the file that buildx wrote when it pushed the image. Raises NotReadyError."""
    try:
        digest = json.loads(metadata.read_bytes())["containerimage.digest"]
    except (OSError, ValueError, KeyError):
        raise NotReadyError(f"{metadata} names no digest; `make image-push` writes it") from None
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise NotReadyError(f"{metadata}: {digest!r} is no digest")
    return digest


def deploy(environment: str, image: str, site: Path | None, execute: Run, capture: Capture) -> None:
    """Stops at the first step that fails. Raises NotDeployedError and NotReadyError."""
    overlay, rollouts = _copy(environment, site)

    def step(error: str, *command: str) -> None:
        if execute(command) != 0:
            raise NotDeployedError(error)

    step(
        "the image could not be set",
        "make",
        "--no-print-directory",
        "set-image",
        f"OVERLAY={overlay}",
        f"TO={image}",
    )
    step("the overlay may not be applied", sys.executable, "-m", "tests.manifests", str(overlay))
    namespace = namespace_of(capture(["kubectl", "kustomize", str(overlay)]))
    in_namespace = ("--namespace", namespace)
    migration = ("job", "migrate", *in_namespace)
    step("the old migration Job was not deleted", "kubectl", "delete", *migration, "--ignore-not-found")
    first = ("--selector", "orderflow.dev/apply=first")
    step("what must be first was not applied", "kubectl", "apply", "--kustomize", str(overlay), *first)
    complete = ("--for", "condition=complete", "--timeout", "30m")
    step("the migration did not complete", "kubectl", "wait", "job/migrate", *in_namespace, *complete)
    if environment == "production":
        step("the rollouts were not applied", "kubectl", "apply", "--kustomize", str(rollouts), *in_namespace)
    step("the overlay was not applied", "kubectl", "apply", "--kustomize", str(overlay))
    if environment == "production":
        _watch_rollouts(namespace, execute, capture)
    ready = ("--for", "condition=Ready", "--timeout", "10m")
    step("not every Service is ready", "kubectl", "wait", "ksvc", "--all", *in_namespace, *ready)


def _copy(environment: str, site: Path | None) -> tuple[Path, Path]:
    """Returns the folders of the overlay and of the rollouts in the copy."""
    shutil.rmtree(_COPY, ignore_errors=True)
    for folder in ("knative", "argo"):
        shutil.copytree(folder, _COPY / folder)
    # The overlay `local` has a file of examples/.
    shutil.copytree("examples", _COPY / "examples", ignore=shutil.ignore_patterns("storefront"))
    overlay, rollouts = _COPY / "knative/overlays" / environment, _COPY / "argo/rollouts"
    if site is None:
        return overlay, rollouts
    if not site.is_dir():
        raise NotReadyError(f"SITE={site} is no folder")
    shutil.copytree(site, _COPY / "site")
    site_overlay, site_rollouts = _COPY / "site" / environment, _COPY / "site/rollouts"
    return (
        site_overlay if site_overlay.is_dir() else overlay,
        site_rollouts if site_rollouts.is_dir() else rollouts,
    )


def namespace_of(manifests: bytes) -> str:
    """The one namespace of the Services in an overlay. Raises NotDeployedError where there is none, or several."""
    try:
        documents = [each for each in yaml.safe_load_all(manifests) if each]
        namespaces = {each["metadata"].get("namespace") for each in documents if _is_knative(each)}
    except (yaml.YAMLError, KeyError, TypeError):
        raise NotDeployedError("the overlay's manifests cannot be read") from None
    if len(namespaces) != 1 or not (namespace := namespaces.pop()):
        raise NotDeployedError("the overlay's Services are not all in one namespace")
    return str(namespace)


def _is_knative(document: dict[str, object]) -> bool:
    return document["kind"] == "Service" and str(document["apiVersion"]).startswith("serving.knative.dev/")


def _watch_rollouts(namespace: str, execute: Run, capture: Capture) -> None:
    """Waits for all rollouts, also after one has failed, so that the result of each is known."""
    in_namespace = ("--namespace", namespace)
    failed = [
        name
        for name in ROLLED_OUT
        if execute(["kn-rollout", "status", name, *in_namespace, "--timeout", ROLLOUT_TIMEOUT]) != 0
    ]
    _STATUS.mkdir(parents=True, exist_ok=True)
    reasons = []
    for name in failed:
        execute(["kn-rollout", "get", name, *in_namespace])
        status = capture(["kn-rollout", "status", name, *in_namespace, "--no-watch", "--output", "json"])
        (_STATUS / f"{name}.json").write_bytes(status)
        reasons.append(f"{name}: {_reason(status)}")
    (_STATUS / "verdict").write_text("".join(f"{line}\n" for line in reasons or ["rolled out"]))
    if failed:
        raise NotDeployedError(f"not rolled out, the stable revision has all traffic: {'; '.join(reasons)}")


def _reason(status: bytes) -> str:
    """The phase and the controller's message, which names the failed analysis."""
    try:
        document = json.loads(status)
        return f"{document['phase']}: {document['message']}"
    except (ValueError, KeyError, TypeError):
        return "the cluster does not report its status"


def main(arguments: Sequence[str] | None = None, execute: Run = run, capture: Capture = capture) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.deploy", description=__doc__)
    parser.add_argument("environment", choices=("staging", "production"))
    parser.add_argument("--image", required=True, help="the repository, without tag or digest")
    parser.add_argument("--metadata", type=Path, default=Path("build/image.json"))
    options = parser.parse_args(arguments)
    try:
        if not os.environ.get("KUBECONFIG"):
            raise NotReadyError("KUBECONFIG is not set: it must name the cluster")  # noqa: TRY301
        site = Path(os.environ["SITE"]) if os.environ.get("SITE") else None
        deploy(
            options.environment, f"{options.image}@{pushed_digest(options.metadata)}", site, execute, capture
        )
    except NotReadyError as error:
        sys.stderr.write(f"deploy: {error}\n")
        return 2
    except NotDeployedError as error:
        sys.stderr.write(f"deploy: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
