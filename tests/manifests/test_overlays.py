"""Every folder with a kustomization builds, fits the real schemas of its kinds, and keeps our rules."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from orderflow_sandbox.serving.manifest import load, parse
from orderflow_sandbox.serving.service import Service
from tests.manifests import rules, schemas
from tests.manifests.building import ROOT, build, folders, kustomize
from tests.manifests.deployments import NAMES, deployment

LOCAL = Path("knative/overlays/local")
"""Its image is loaded into the node under a tag."""
DIGEST = "registry.example/orderflow@sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize("folder", folders(), ids=str)
def test_every_folder_builds_and_fits_the_schemas(folder: Path) -> None:
    faults = [f"{rules.named(each)}: {fault}" for each in build(folder) for fault in schemas.faults(each)]
    assert faults == []


@pytest.mark.parametrize("folder", folders(), ids=str)
def test_every_folder_keeps_the_rules(folder: Path) -> None:
    faults = [fault for rule in rules.ALWAYS for fault in rule(build(folder))]
    if folder != LOCAL:
        faults += rules.images_are_no_tags(build(folder))
    assert faults == []


@pytest.mark.parametrize("name", NAMES)
def test_what_a_deployment_is_made_of_fits_together(name: str) -> None:
    """The rules that look at Services and KafkaSources at once."""
    whole = deployment(name)
    faults = [fault for rule in (*rules.ALWAYS, rules.sinks_exist) for fault in rule(whole)]
    assert faults == []
    assert len(rules.of_kind(whole, rules.SERVICE)) == 8
    assert len(rules.of_kind(whole, rules.KAFKA_SOURCE)) == 4


def test_every_stage_that_is_deployed_is_one_that_there_is() -> None:
    files = {f"functions/{file.name}" for file in (ROOT / "functions").glob("*.py")}
    for name in NAMES:
        services = rules.of_kind(build(Path("knative/overlays") / name), rules.SERVICE)
        sources = {
            variable["value"]
            for service in services
            for variable in service["spec"]["template"]["spec"]["containers"][0]["env"]
            if variable["name"] == "FUNCTION_SOURCE"
        }
        assert sources == files


def test_the_base_means_the_same_to_the_sandbox_with_and_without_kustomize() -> None:
    """Its patches may only touch what the sandbox does not look at."""
    built = parse("---\n".join(map(yaml.safe_dump, build(Path("knative/base")))), "built")
    plain = load(ROOT / "knative/base")

    def sandbox_fields(service: Service) -> object:
        return service.model_dump(
            exclude={
                "metadata": {"namespace"},
                "spec": {
                    "template": {
                        "spec": {
                            "automount_service_account_token": True,
                            "enable_service_links": True,
                            "containers": {"__all__": {"security_context"}},
                        }
                    }
                },
            }
        )

    def by_name(service: Service) -> str:
        return service.name

    assert [sandbox_fields(each) for each in sorted(built.services, key=by_name)] == [
        sandbox_fields(each) for each in sorted(plain.services, key=by_name)
    ]
    assert built.config_maps == plain.config_maps


@pytest.mark.parametrize(
    ("image", "code", "message"),
    [
        (DIGEST, 0, ""),
        ("registry.example/orderflow:1.4.0", 1, "registry.example/orderflow:1.4.0 is no digest"),
        (None, 1, "Service track: orderflow is no digest"),
    ],
)
def test_production_is_deployable_with_a_digest_and_with_nothing_else(
    image: str | None, code: int, message: str, tmp_path: Path
) -> None:
    """As the pipeline does it: kustomize edit set image, then make deployable."""
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    base = Path("/".join([".."] * len(overlay.parts[1:]))) / str(ROOT / "knative/overlays/production")[1:]
    document = {"kind": "Kustomization", "resources": [str(base)]}
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(document))
    if image is not None:
        command = [kustomize(), "edit", "set", "image", f"orderflow={image}"]
        subprocess.run(command, cwd=overlay, check=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.manifests", str(overlay)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert message in done.stderr
