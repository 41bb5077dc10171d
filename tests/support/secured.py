"""A broker as kafka/ describes it, but for its copies: TLS with a certificate for each user, and their rules."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trustme
from confluent_kafka.admin import AclBinding, AclBindingFilter, AdminClient
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from orderflow.settings import KafkaSettings
from orderflow_sandbox.address import free_port
from orderflow_sandbox.servers.kafka import EmbeddedKafka
from orderflow_sandbox.servers.nodes import choose_ports
from orderflow_sandbox.servers.topics import admin_client, create_topics
from support.strimzi import ROOT, Rule, resources, rules
from support.waiting import until

PARTITIONS = 4
MOUNTED = "/etc/orderflow/kafka"
"""Where client.properties finds a stage's files in a pod."""


@dataclass
class Secured:
    """bootstrap is of the listener with TLS, inside of the one on which everything is allowed; folder has a folder
    for each user, as its pods would see it."""

    bootstrap: str
    inside: str
    admin: AdminClient
    folder: Path

    def settings(self, user: str) -> KafkaSettings:
        """A stage's, with the file of properties that the cluster has."""
        return KafkaSettings(
            kafka_bootstrap=self.bootstrap,
            kafka_config_file=self.folder / user / "client.properties",
            kafka_ack_seconds=5,
        )

    def environment(self, user: str) -> dict[str, str]:
        """What a stage's pod is told of Kafka."""
        file = self.folder / user / "client.properties"
        return {"KAFKA_BOOTSTRAP": self.bootstrap, "KAFKA_CONFIG_FILE": str(file)}

    def allow(self, *some: Rule) -> None:
        for future in self.admin.create_acls([rule.binding for rule in some]).values():
            future.result(20)
        until(lambda: all(self._known(rule.binding) for rule in some))

    @contextlib.contextmanager
    def without(self, rule: Rule) -> Iterator[None]:
        only = _filter(rule.binding)
        for future in self.admin.delete_acls([only]).values():
            assert len(future.result(20)) == 1
        until(lambda: not self._known(rule.binding))
        try:
            yield
        finally:
            self.allow(rule)

    def _known(self, binding: AclBinding) -> bool:
        return bool(self.admin.describe_acls(_filter(binding)).result(20))


@contextlib.contextmanager
def secured_kafka(folder: Path) -> Iterator[Secured]:
    """The topics and the users are those of kafka/base, with one copy and few partitions."""
    ports, clients = choose_ports(), free_port()
    authority = trustme.CA()
    (folder / "ca.crt").write_bytes(authority.cert_pem.bytes())
    server = authority.issue_cert("127.0.0.1")
    key, *chain = _key(server), *(each.bytes() for each in server.cert_chain_pems)
    (folder / "server.pem").write_bytes(b"".join([key, *chain]))
    known = rules()
    for user in {rule.user for rule in known}:
        _certify(authority, user, folder / user)
    tls = "listener.name.clients.ssl."
    settings = {
        "listeners": f"BROKER://127.0.0.1:{ports.broker},CONTROLLER://127.0.0.1:{ports.controller},"
        f"CLIENTS://127.0.0.1:{clients}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,CLIENTS:SSL",
        f"{tls}client.auth": "required",
        f"{tls}keystore.type": "PEM",
        f"{tls}keystore.location": str(folder / "server.pem"),
        f"{tls}truststore.type": "PEM",
        f"{tls}truststore.location": str(folder / "ca.crt"),
        # Strimzi's certificates have a CN and no more; these have more.
        f"{tls}principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/CN=$1/",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    with EmbeddedKafka(folder / "kafka", ports=ports, settings=settings) as kafka:
        _create_topics(kafka.bootstrap)
        secured = Secured(f"127.0.0.1:{clients}", kafka.bootstrap, admin_client(kafka.bootstrap), folder)
        secured.allow(*known)
        yield secured


def _certify(authority: trustme.CA, user: str, folder: Path) -> None:
    """The files of a user's Secret, and the properties that name them."""
    folder.mkdir()
    # The JVM refuses a certificate whose list of names is empty.
    certificate = authority.issue_cert(f"{user}.example", common_name=user)
    (folder / "ca.crt").write_bytes(authority.cert_pem.bytes())
    (folder / "user.crt").write_bytes(b"".join(each.bytes() for each in certificate.cert_chain_pems))
    (folder / "user.key").write_bytes(_key(certificate))
    properties = (ROOT / "kafka/client/client.properties").read_text()
    assert MOUNTED in properties
    (folder / "client.properties").write_text(properties.replace(MOUNTED, str(folder)))


def _key(certificate: trustme.LeafCert) -> bytes:
    """In PKCS #8, which is what the JVM reads and Strimzi writes."""
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _create_topics(bootstrap: str) -> None:
    for topic in resources("KafkaTopic"):
        config = {name: str(value) for name, value in topic["spec"]["config"].items()}
        create_topics(
            bootstrap,
            [topic["metadata"]["name"]],
            partitions=PARTITIONS,
            config=config | {"min.insync.replicas": "1"},
        )


def _filter(binding: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        binding.restype,
        binding.name,
        binding.resource_pattern_type,
        binding.principal,
        binding.host,
        binding.operation,
        binding.permission_type,
    )
