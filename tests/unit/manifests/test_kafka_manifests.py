"""What kafka/ and kafka-source/ say has to fit the code, and each other."""

import json
import subprocess
import sys
from typing import Any

import yaml
from support.strimzi import ROOT, resources

from orderflow.adapters.kafka.producer import producer_config
from orderflow.messaging import topics
from orderflow.settings import KafkaSettings
from orderflow_sandbox.delivery.manifest import read_manifests

SOURCES = read_manifests(ROOT / "kafka-source/base")
DATA_PLANE = ROOT / "kafka-source/data-plane"
SHIPPED = (
    "fetch.min.bytes=1\nmax.poll.records=50\n# max.partition.fetch.bytes=1\nsecurity.protocol=PLAINTEXT\n"
)


def specs() -> dict[str, dict[str, Any]]:
    return {topic["metadata"]["name"]: topic["spec"] for topic in resources("KafkaTopic")}


def tune(data: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    metadata = {"name": "config-kafka-source-data-plane", "namespace": "knative-eventing", "uid": "1"}
    manifest = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    command = [sys.executable, str(DATA_PLANE / "tune")]
    return subprocess.run(command, input=manifest, capture_output=True, text=True, check=False)


def test_the_topics_are_those_of_the_code() -> None:
    assert set(specs()) == set(topics.ALL)


def test_all_topics_have_the_same_number_of_partitions() -> None:
    assert len({spec["partitions"] for spec in specs().values()}) == 1


def test_what_a_stage_makes_of_a_record_fits_into_its_topic() -> None:
    most = {name: spec["config"]["max.message.bytes"] for name, spec in specs().items()}
    assert {most[name] for name in topics.ALL if name != topics.INBOX} == {topics.MAX_BYTES}
    assert most[topics.INBOX] == 2**20 + 12


def test_only_the_inbox_is_unpacked_by_the_broker_which_others_write_to() -> None:
    compression = {name: spec["config"].get("compression.type") for name, spec in specs().items()}
    assert compression.pop(topics.INBOX) == topics.INBOX_COMPRESSION
    assert set(compression.values()) == {None}


def test_no_topic_loses_what_a_broker_loses() -> None:
    for spec in specs().values():
        assert (spec["replicas"], spec["config"]["min.insync.replicas"]) == (3, 2)
        assert spec["config"]["cleanup.policy"] == "delete"
    (cluster,) = resources("Kafka")
    config = cluster["spec"]["kafka"]["config"]
    assert config["unclean.leader.election.enable"] is False
    assert config["auto.create.topics.enable"] is False


def test_a_groups_offsets_outlive_the_records_of_every_topic() -> None:
    (cluster,) = resources("Kafka")
    minutes = cluster["spec"]["kafka"]["config"]["offsets.retention.minutes"]
    longest = max(spec["config"]["retention.ms"] for spec in specs().values())
    assert minutes * 60_000 > longest


def test_every_source_reads_one_topic_of_ours_as_the_group_that_the_audit_asks_for() -> None:
    read = {source.spec.topics[0]: source for source in SOURCES if len(source.spec.topics) == 1}
    assert set(read) == set(topics.ALL)
    for source in SOURCES:
        assert source.spec.consumer_group == topics.consumer_group(source.metadata.name)


def test_each_source_has_a_user_of_its_own_and_its_overlays_name_its_secret() -> None:
    users = {user["metadata"]["name"] for user in resources("KafkaUser")}
    for source in SOURCES:
        name = source.metadata.name
        assert f"source-{name}" in users
        patch = yaml.safe_load((ROOT / f"kafka-source/components/tls/{name}.yaml").read_text())
        tls = patch["spec"]["net"]["tls"]
        secrets = {tls[part]["secretKeyRef"]["name"] for part in ("cert", "key")}
        assert secrets == {f"kafka-source-{name}"}


def test_no_source_has_more_consumers_than_its_topic_has_partitions() -> None:
    component = yaml.safe_load((ROOT / "kafka-source/components/keda/kustomization.yaml").read_text())
    (operation,) = yaml.safe_load(component["patches"][0]["patch"])
    most = int(operation["value"]["autoscaling.eventing.knative.dev/max-scale"])
    assert most <= min(spec["partitions"] for spec in specs().values())


def test_the_data_plane_gets_our_properties_and_keeps_its_own() -> None:
    key = "config-kafka-source-consumer.properties"
    done = tune({key: SHIPPED, "config-kafka-source-producer.properties": "acks=all\n"})
    config_map = json.loads(done.stdout)
    lines = config_map["data"][key].splitlines()
    assert lines[:4] == ["fetch.min.bytes=1", "max.poll.records=500", *SHIPPED.splitlines()[2:]]
    assert lines[4:] == [
        "max.partition.fetch.bytes=65536",
        "fetch.max.bytes=4194304",
        "metadata.max.age.ms=60000",
    ]
    assert list(config_map["data"]) == [key]
    assert config_map["metadata"] == {
        "name": "config-kafka-source-data-plane",
        "namespace": "knative-eventing",
    }


def test_another_configmap_is_refused_by_tune() -> None:
    done = tune({"something": "else"})
    assert done.returncode == 1
    assert "config-kafka-source-consumer.properties" in done.stderr


def test_a_producers_batch_fits_into_what_the_data_plane_fetches_of_a_partition() -> None:
    text = (DATA_PLANE / "consumer.properties").read_text()
    (most,) = (line.split("=")[1] for line in text.splitlines() if line.startswith("max.partition.fetch"))
    assert producer_config(KafkaSettings(kafka_bootstrap="h:1"))["batch.size"] < int(most)


def test_what_stages_are_told_of_kafka_has_no_secret_in_it() -> None:
    lines = (ROOT / "kafka/client/client.properties").read_text().splitlines()
    names = {line.partition("=")[0] for line in lines if not line.startswith("#")}
    assert names == {
        "security.protocol",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "topic.metadata.refresh.interval.ms",
    }
