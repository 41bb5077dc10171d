"""The whole pipeline in a namespace of the cluster, from the overlay `local`, and what tests and figures ask of it."""

import base64
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import yaml

from orderflow.adapters.http import api_keys
from orderflow_sandbox.sandbox import ROOT
from tests.cluster.kube import ClusterError, Kube, run
from tests.cluster.servers import Servers

STAGES: Final = ("intake", "validate", "track", "notify", "park", "shelve", "query", "audit")
KAFKA_SOURCE: Final = "kafkasources.sources.knative.dev"
_OVERLAY: Final = ROOT / "knative/overlays/local"
_SOURCES: Final = ROOT / "kafka-source/base"
_CONSOLE: Final = ROOT / "argo/console"
_READY_SECONDS: Final = 300.0
_NOTIFICATIONS: Final = """\
[shop]
name = "Cluster shop"
url = "{mailbox}"

[email]
from = "orders@shop.example"
smtp_url = "{smtp}"
starttls = false

[[webhooks]]
name = "shop-system"
url = "{mailbox}/webhook"
secret_file = "webhook-secret"
allow_private = true
"""


@dataclass(frozen=True, slots=True)
class Options:
    """image and delivery_image are already where the cluster's nodes find them.

    host is an address of this machine that pods reach. ingress is where the gateway of public Services
    listens, as host:port. state is where the servers' data and the generated manifests go. patches are kustomize's.
    With console_image query shows releases (argo/console).
    """

    image: str
    delivery_image: str
    host: str
    ingress: str
    state: Path
    namespace: str = "orderflow"
    patches: tuple[dict[str, Any], ...] = ()
    partitions: int = 32
    console_image: str = ""

    @classmethod
    def from_environment(cls, state: Path) -> Self:
        """As `make e2e-cluster` sets it. Raises ClusterError naming what is missing."""
        given = {name: os.environ.get(name, "") for name in ("IMAGE", "DELIVERY_IMAGE", "HOST")}
        missing = [name for name, value in given.items() if not value]
        if missing:
            raise ClusterError(
                f"{', '.join(missing)}: not set; call `make e2e-cluster`, which says what they are"
            )
        ingress = os.environ.get("INGRESS") or gateway()
        return cls(given["IMAGE"], given["DELIVERY_IMAGE"], given["HOST"], ingress, state)


def gateway(name: str = "kourier") -> str:
    """host:port of Kourier's public gateway, or with kourier-internal of the cluster's own.

    The load balancer's address, or, where the cluster has no load balancer, the Service's own address.
    """
    found = json.loads(
        run(["kubectl", "get", "service", name, "--namespace=kourier-system", "--output=json"])
    )
    balanced = found["status"].get("loadBalancer", {}).get("ingress") or []
    address = next((each.get("ip") or each.get("hostname") for each in balanced), found["spec"]["clusterIP"])
    return f"{address}:80"


class Stack:
    """Use as a context manager: deployed and ready inside, taken down outside.

    key opens intake and query, and may act.
    """

    def __init__(self, options: Options, servers: Servers) -> None:
        self.options = options
        self.servers = servers
        self.kube = Kube(options.namespace)
        self.key, entry = api_keys.new_key("local", ("intake", "query"), act=True)
        self.doors = api_keys.toml(entry)

    def __enter__(self) -> Self:
        try:
            self.deploy()
        except BaseException:
            self.take_down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.take_down()

    @property
    def proxy(self) -> str:
        """To be set as HTTP_PROXY: the gateway takes a Service's name from the address that is asked for."""
        return f"http://{self.options.ingress}"

    def environment(self) -> dict[str, str]:
        """For a command that calls query, such as kn order."""
        return dict(os.environ) | {
            "HTTP_PROXY": self.proxy,
            "http_proxy": self.proxy,
            "ORDERFLOW_SERVER": self.url("query"),
            "ORDERFLOW_KEY": self.key,
        }

    def url(self, service: str) -> str:
        address: str = self.kube.get("ksvc", service)["status"]["url"]
        return address

    def prepare(self) -> None:
        """The namespace, with the Secrets that every deployment wants there (knative/README.md)."""
        # One that is just going takes nothing new.
        going = [
            each["metadata"]["name"]
            for each in self.kube.items("namespaces")
            if "deletionTimestamp" in each["metadata"]
        ]
        if self.options.namespace in going:
            gone = f"namespace/{self.options.namespace}"
            self.kube.kubectl("wait", "--for=delete", gone, "--timeout=300s")
        self.kube.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.options.namespace}}
        )
        self.kube.apply(*self._secrets())

    def deploy(self) -> None:
        """Raises ClusterError with what did not come up, and where the pods are."""
        self.prepare()
        # A Job cannot be changed; the one of an earlier deployment has done its work.
        self.kube.kubectl("delete", "job", "migrate", "--ignore-not-found")
        self.kube.kubectl("apply", "--kustomize", str(self._kustomization()))
        self.kube.until(_READY_SECONDS, "the migration", self._migrated)
        if self.kube.has(KAFKA_SOURCE):
            self._sources()
        else:
            self.deliver()
            self.kube.kubectl("rollout", "status", "deployment/delivery", "--timeout=180s")
        self.kube.until(_READY_SECONDS, "the Services", lambda: self.ready() or None)

    def take_down(self) -> None:
        """At once: what a pod still does is of no use to anybody."""
        for kinds in ("ksvc,cronjobs", "deployments,jobs"):
            self.kube.kubectl("delete", kinds, "--all", "--wait=false")
        # A namespace that is deleted before its pods are gone is looked at again after half of the time that they may
        # take, which is minutes for the audit's.
        self.kube.kubectl("delete", "pods", "--all", "--grace-period=1", "--timeout=120s")
        self.kube.kubectl(
            "delete", "namespace", self.options.namespace, "--ignore-not-found", "--timeout=300s"
        )

    def ready(self) -> bool:
        """Are all Services?"""
        found = {service["metadata"]["name"]: service for service in self.kube.items("ksvc")}
        return all(name in found and is_ready(found[name]) for name in STAGES)

    def _migrated(self) -> bool | None:
        conditions = self.kube.get("job", "migrate")["status"].get("conditions", [])
        if holds(conditions, "Failed"):
            raise ClusterError(f"the migration failed: {self.kube.kubectl('logs', 'job/migrate')}")
        return holds(conditions, "Complete") or None

    def _secrets(self) -> list[dict[str, Any]]:
        told = _NOTIFICATIONS.format(mailbox=self.servers.mailbox, smtp=self.servers.smtp)
        return [
            secret("orderflow-database", url=self.servers.database_url),
            secret(
                "orderflow-notifications",
                **{"notifications.toml": told, "webhook-secret": self.servers.webhook_secret.read_text()},
            ),
            secret("orderflow-api-keys", **{"api-keys.toml": self.doors}),
        ]

    def _kustomization(self) -> Path:
        """The overlay with this run's image and addresses, in a folder of its own."""
        folder = self.options.state / "manifests"
        folder.mkdir(parents=True, exist_ok=True)
        name, _, tag = self.options.image.rpartition(":")
        settings = {
            "KAFKA_BOOTSTRAP": self.servers.bootstrap,
            "PUBLIC_URL": f"http://query.{self.options.namespace}.svc.cluster.local",
        }
        document: dict[str, Any] = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": self.options.namespace,
            "resources": [os.path.relpath(_OVERLAY, folder)],
            "images": [{"name": "dev.local/orderflow", "newName": name, "newTag": tag}],
            "patches": [
                *self.options.patches,
                {
                    "target": {"kind": "ConfigMap", "name": "orderflow"},
                    "patch": yaml.safe_dump(
                        {
                            "apiVersion": "v1",
                            "kind": "ConfigMap",
                            "metadata": {"name": "orderflow"},
                            "data": settings,
                        }
                    ),
                },
            ],
        }
        if self.options.console_image:
            name, _, tag = self.options.console_image.rpartition(":")
            document["components"] = [os.path.relpath(_CONSOLE, folder)]
            document["images"].append({"name": "orderflow-console", "newName": name, "newTag": tag})
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
        return folder

    def _sources(self) -> None:
        """KafkaSources, where the cluster knows them."""
        for file in sorted(_SOURCES.glob("*.yaml")):
            source = yaml.safe_load(file.read_text())
            if source["kind"] == "KafkaSource":
                source["spec"]["bootstrapServers"] = [self.servers.bootstrap]
                self.kube.apply(source)
        self.kube.kubectl("wait", "kafkasources", "--all", "--for=condition=Ready", "--timeout=180s")

    def deliver(self) -> None:
        """The project's own delivery, with the same manifests. It starts once the ConfigMap `orderflow` is there."""
        data = {file.name: file.read_text() for file in sorted(_SOURCES.glob("*.yaml"))}
        self.kube.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kafka-sources"}, "data": data}
        )
        text = (Path(__file__).parent / "delivery.yaml").read_text()
        self.kube.kubectl(
            "apply",
            "--filename=-",
            given=text.replace("image: orderflow-delivery", f"image: {self.options.delivery_image}"),
        )


def is_ready(thing: dict[str, Any]) -> bool:
    """Is it, in the generation that was asked for?"""
    status = thing.get("status", {})
    seen = status.get("observedGeneration") == thing["metadata"]["generation"]
    return seen and holds(status.get("conditions", []), "Ready")


def holds(conditions: list[dict[str, Any]], kind: str) -> bool:
    return any(each["type"] == kind and each["status"] == "True" for each in conditions)


def secret(name: str, **values: str) -> dict[str, Any]:
    """An Opaque one."""
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}
