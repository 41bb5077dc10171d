"""The cluster's own manifests, with as few changes as a fault needs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from orderflow_sandbox.serving.manifest import Manifests, load, parse

ROOT = Path(__file__).parents[2]
STAGES = ("intake", "validate", "track", "notify", "park", "shelve")
_SCALE = "autoscaling.knative.dev/{bound}-scale"
_MOST_PROCESSES = 2


def service(name: str, *, faulty: bool = False, processes: int = 0) -> Manifests:
    """One Service. faulty: it runs tests/chaos/faulty/<name>.py; processes: as many, no more and no less."""
    document = yaml.safe_load((ROOT / f"knative/base/{name}.yaml").read_text())
    template = document["spec"]["template"]
    bounds = {"min": processes, "max": processes or _MOST_PROCESSES}
    template["metadata"]["annotations"] |= {
        _SCALE.format(bound=bound): str(number) for bound, number in bounds.items()
    }
    if faulty:
        _set_source(template, f"tests/chaos/faulty/{name}.py")
    return parse(yaml.safe_dump(document), f"{name}.yaml")


def _set_source(template: dict[str, Any], source: str) -> None:
    (container,) = template["spec"]["containers"]
    (variable,) = (each for each in container["env"] if each["name"] == "FUNCTION_SOURCE")
    variable["value"] = source


def all_stages() -> Iterable[Manifests]:
    yield load(ROOT / "knative/base/configmap.yaml")
    for name in STAGES:
        yield service(name)


def sources(folder: Path, policy: str) -> Path:
    """Every KafkaSource with the named policy of delivery.yaml in place of the base's; the folder they are in."""
    own = yaml.safe_load((Path(__file__).parent / "delivery.yaml").read_text())[policy]
    folder = folder / policy
    folder.mkdir(parents=True, exist_ok=True)
    for file in (ROOT / "kafka-source/base").glob("*.yaml"):
        document = yaml.safe_load(file.read_text())
        if document["kind"] == "KafkaSource":
            document["spec"]["delivery"] |= own
            (folder / file.name).write_text(yaml.safe_dump(document))
    return folder
