"""KafkaSource manifests: defaults as KafkaSource has them, and strictness."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from orderflow.errors import BadSettingsError
from orderflow_sandbox.delivery.manifest import Delivery, KafkaSource, read_manifests

REPOSITORY = Path(__file__).parents[4]


def manifest(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "sources.knative.dev/v1",
        "kind": "KafkaSource",
        "metadata": {"name": "track"},
        "spec": {
            "bootstrapServers": ["kafka:9092"],
            "topics": ["orders"],
            "sink": {"ref": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "track"}},
            **spec,
        },
    }


def read(tmp_path: Path, *documents: object) -> list[KafkaSource]:
    (tmp_path / "source.yaml").write_text(yaml.safe_dump_all(documents))
    return read_manifests(tmp_path)


def test_defaults_are_those_of_a_kafkasource(tmp_path: Path) -> None:
    spec = read(tmp_path, manifest())[0].spec
    assert (spec.consumers, spec.initial_offset, spec.ordering) == (1, "latest", "ordered")
    assert spec.consumer_group is None


def test_without_a_delivery_block_there_are_10_retries_from_300_ms_and_600_s(
    tmp_path: Path,
) -> None:
    delivery = read(tmp_path, manifest())[0].spec.delivery
    assert delivery.retry == 10
    assert delivery.backoff_policy == "exponential"
    assert delivery.backoff_delay == timedelta(seconds=0.3)
    assert delivery.timeout == timedelta(seconds=600)
    assert delivery.dead_letter_sink is None


def test_a_delivery_block_without_retry_has_no_retries(tmp_path: Path) -> None:
    spec = read(tmp_path, manifest(delivery={"backoffPolicy": "linear"}))[0].spec
    assert spec.delivery.retry == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT0.3S", 0.3),
        ("PT1M30S", 90),
        ("PT2H", 7200),
        ("P1D", 86400),
        ("P1W", 604800),
        ("P1DT1S", 86401),
        ("PT0S", 0),
    ],
)
def test_durations_are_iso_8601(text: str, seconds: float) -> None:
    delay = Delivery.model_validate({"backoffDelay": text}).backoff_delay
    assert delay == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"consumer": 3}, "spec.consumer"),
        ({"topics": []}, "spec.topics"),
        ({"bootstrapServers": []}, "spec.bootstrapServers"),
        ({"consumers": -1}, "spec.consumers"),
        ({"consumers": "3"}, "spec.consumers"),
        ({"initialOffset": "newest"}, "spec.initialOffset"),
        ({"ordering": "sorted"}, "spec.ordering"),
        ({"consumerGroup": ""}, "spec.consumerGroup"),
        ({"delivery": {"retries": 3}}, "spec.delivery.retries"),
        ({"delivery": {"retry": -1}}, "spec.delivery.retry"),
        ({"delivery": {"backoffPolicy": "random"}}, "spec.delivery.backoffPolicy"),
        ({"delivery": {"backoffDelay": "300ms"}}, "spec.delivery.backoffDelay"),
        ({"delivery": {"backoffDelay": "PT"}}, "spec.delivery.backoffDelay"),
        ({"delivery": {"backoffDelay": 1}}, "spec.delivery.backoffDelay"),
        ({"delivery": {"timeout": "PT0S"}}, "spec.delivery.timeout"),
        ({"delivery": {"timeout": "P1M"}}, "spec.delivery.timeout"),
        ({"delivery": {"deadLetterSink": {}}}, "spec.delivery.deadLetterSink"),
        ({"sink": {"uri": "/relative"}}, "spec.sink"),
        ({"sink": {"ref": {"apiVersion": "v1", "kind": "Pod", "name": "x"}}}, "spec.sink.ref.kind"),
        ({"ceOverrides": {"extensions": {"a-b": "1"}}}, "spec.ceOverrides.extensions"),
    ],
)
def test_a_bad_field_is_an_error_that_names_file_and_field(
    tmp_path: Path, spec: dict[str, Any], field: str
) -> None:
    with pytest.raises(BadSettingsError) as error:
        read(tmp_path, manifest(**spec))
    assert f"source.yaml: {field}: " in str(error.value)


def test_another_kind_is_an_error_and_a_kustomization_is_skipped(tmp_path: Path) -> None:
    kustomization = {"kind": "Kustomization", "resources": ["source.yaml"]}
    assert len(read(tmp_path, kustomization, manifest())) == 1
    with pytest.raises(BadSettingsError, match="kind"):
        read(tmp_path, {**manifest(), "kind": "KafkaSouce"})


def test_two_sources_of_one_name_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadSettingsError, match="two KafkaSources named track"):
        read(tmp_path, manifest(), manifest())


def test_the_projects_own_sources_are_explicit_in_all_that_matters() -> None:
    sources = read_manifests(REPOSITORY / "kafka-source/base")
    assert {source.metadata.name for source in sources} == {
        "validate",
        "track",
        "notify",
        "shelve",
    }
    for source in sources:
        spec = source.spec
        assert spec.consumer_group == f"orderflow-{source.metadata.name}"
        assert (spec.initial_offset, spec.ordering) == ("earliest", "ordered")
        assert spec.model_fields_set >= {"initial_offset", "ordering", "delivery"}
        assert spec.delivery.model_fields_set == set(Delivery.model_fields)
        letters = spec.delivery.dead_letter_sink
        assert letters is not None
        assert letters.ref is not None
        assert letters.ref.name == "park"


def test_a_source_gives_up_on_an_attempt_before_the_service_does() -> None:
    for source in read_manifests(REPOSITORY / "kafka-source/base"):
        service = REPOSITORY / "knative/base" / f"{source.metadata.name}.yaml"
        template = yaml.safe_load(service.read_text())["spec"]["template"]
        limit = timedelta(seconds=template["spec"]["timeoutSeconds"])
        assert source.spec.delivery.timeout < limit


@pytest.mark.parametrize("net", [{"tls": {"enable": True}}, {"sasl": {"enable": True}}])
def test_a_source_with_tls_or_a_password_is_not_delivered_without_being_told_how(
    net: dict[str, Any], tmp_path: Path
) -> None:
    """Its secrets are Kubernetes', which this process cannot ask."""
    (tmp_path / "source.yaml").write_text(yaml.safe_dump(manifest(net=net)))
    command = [sys.executable, "-m", "orderflow_sandbox.delivery", "--manifests", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "spec.net is enabled; give its settings by --kafka-config" in done.stderr
