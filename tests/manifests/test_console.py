"""argo/console on top of an overlay: query may ask the cluster, and no other stage."""

import os
from pathlib import Path

import pytest
import yaml

from tests.manifests.building import ROOT, Document, build


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> tuple[Document, ...]:
    folder: Path = tmp_path_factory.mktemp("console")
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "orderflow",
        "resources": [os.path.relpath(ROOT / "knative/overlays/local", folder)],
        "components": [os.path.relpath(ROOT / "argo/console", folder)],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return build(folder)


def stages(documents: tuple[Document, ...]) -> dict[str, Document]:
    return {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]
        for each in documents
        if each["kind"] == "Service"
    }


def test_knative_takes_it(documents: tuple[Document, ...]) -> None:
    """Knative's webhook refuses the field unless it is false; no schema says so."""
    assert not any(pod.get("automountServiceAccountToken") for pod in stages(documents).values())


def test_only_query_gets_a_token_and_is_told_of_rollouts(documents: tuple[Document, ...]) -> None:
    tokens = {
        name
        for name, pod in stages(documents).items()
        if pod.get("automountServiceAccountToken") is not False
    }
    accounts = {
        each["metadata"]["name"]
        for each in documents
        if each["kind"] == "ServiceAccount" and each["automountServiceAccountToken"]
    }
    with_rollouts = {
        name
        for name, pod in stages(documents).items()
        if {"name": "ROLLOUTS", "value": "on"} in pod["containers"][0]["env"]
    }
    assert tokens == accounts == with_rollouts == {"query"}


def test_its_image_is_the_one_with_kubernetes_client(documents: tuple[Document, ...]) -> None:
    images = {name: pod["containers"][0]["image"] for name, pod in stages(documents).items()}
    assert images.pop("query") == "orderflow-console"
    assert set(images.values()) == {"dev.local/orderflow:1"}
