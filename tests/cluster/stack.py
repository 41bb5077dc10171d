"""The whole pipeline in a namespace of the cluster, from the overlay `local`, for the tests and the benchmarks."""

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
    """The cluster's nodes can already pull image and delivery_image.

    host is an address of this machine that pods reach. ingress is the address of the gateway of public Services, as
    host:port. state is the folder of the servers' data and the generated manifests. patches are patches of
    kustomize. With console_image query shows releases (argo/console).
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
        """From the variables that `make e2e-cluster` sets. Raises ClusterError that names the missing ones."""
        variables = {name: os.environ.get(name, "") for name in ("IMAGE", "DELIVERY_IMAGE", "HOST")}
        missing = [name for name, value in variables.items() if not value]
        if missing:
            raise ClusterError(
                f"{', '.join(missing)}: not set; call `make e2e-cluster`, which says what they are"
            )
        ingress = os.environ.get("INGRESS") or gateway()
        return cls(variables["IMAGE"], variables["DELIVERY_IMAGE"], variables["HOST"], ingress, state)


def gateway(name: str = "kourier") -> str:
    """host:port of Kourier's public gateway, or with kourier-internal of the cluster's own.

    The load balancer's address, or, where the cluster has no load balancer, the Service's own address.
    """
    service = json.loads(
        run(["kubectl", "get", "service", name, "--namespace=kourier-system", "--output=json"])
    )
    ingress = service["status"].get("loadBalancer", {}).get("ingress") or []
    host = next((entry.get("ip") or entry.get("hostname") for entry in ingress), service["spec"]["clusterIP"])
    return f"{host}:80"


def variable_path(stage: str, name: str) -> str:
    """The path of an environment variable's value in the manifest of a stage, for a JSON patch. For query with the
    variables of argo/console."""
    manifest = yaml.safe_load((ROOT / f"knative/base/{stage}.yaml").read_text())
    names = [each["name"] for each in manifest["spec"]["template"]["spec"]["containers"][0]["env"]]
    if stage == "query":
        for patch in yaml.safe_load((_CONSOLE / "kustomization.yaml").read_text())["patches"]:
            operations = yaml.safe_load(patch["patch"])
            names += [each["value"]["name"] for each in operations if each["path"].endswith("/env/-")]
    return f"/spec/template/spec/containers/0/env/{names.index(name)}/value"


class Stack:
    """Use as a context manager: entering deploys the pipeline and waits until it is ready, leaving deletes it.

    key is an API key for intake and query that permits actions.
    """

    def __init__(self, options: Options, servers: Servers) -> None:
        self.options = options
        self.servers = servers
        self.kube = Kube(options.namespace)
        self.key, entry = api_keys.new_key("local", ("intake", "query"), act=True)
        self.api_keys_toml = api_keys.toml(entry)

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
        """For HTTP_PROXY: the gateway reads a Service's name from the host of the requested URL."""
        return f"http://{self.options.ingress}"

    def environment(self) -> dict[str, str]:
        """The environment of a command that calls query, such as kn order."""
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
        """Creates the namespace, with the Secrets that every deployment needs there (knative/README.md)."""
        # A namespace that terminates accepts no new objects.
        terminating = [
            namespace["metadata"]["name"]
            for namespace in self.kube.items("namespaces")
            if "deletionTimestamp" in namespace["metadata"]
        ]
        if self.options.namespace in terminating:
            resource = f"namespace/{self.options.namespace}"
            self.kube.kubectl("wait", "--for=delete", resource, "--timeout=300s")
        self.kube.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.options.namespace}}
        )
        self.kube.apply(*self._secrets())

    def deploy(self) -> None:
        """Raises ClusterError that names the part that did not become ready, with the state of the pods."""
        self.prepare()
        # A Job is immutable, and the Job of an earlier deployment is complete.
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
        """Deletes the pipeline without a grace period, because nothing needs the work that a pod still does."""
        for kinds in ("ksvc,cronjobs", "deployments,jobs"):
            self.kube.kubectl("delete", kinds, "--all", "--wait=false")
        # Kubernetes checks a namespace that still has pods again only after half of the pods' grace period. For the
        # audit's pods this takes minutes.
        self.kube.kubectl("delete", "pods", "--all", "--grace-period=1", "--timeout=120s")
        self.kube.kubectl(
            "delete", "namespace", self.options.namespace, "--ignore-not-found", "--timeout=300s"
        )

    def ready(self) -> bool:
        """Whether all Services are ready."""
        services = {service["metadata"]["name"]: service for service in self.kube.items("ksvc")}
        return all(name in services and is_ready(services[name]) for name in STAGES)

    def _migrated(self) -> bool | None:
        conditions = self.kube.get("job", "migrate")["status"].get("conditions", [])
        if holds(conditions, "Failed"):
            raise ClusterError(f"the migration failed: {self.kube.kubectl('logs', 'job/migrate')}")
        return holds(conditions, "Complete") or None

    def _secrets(self) -> list[dict[str, Any]]:
        notifications = _NOTIFICATIONS.format(mailbox=self.servers.mailbox, smtp=self.servers.smtp)
        return [
            secret("orderflow-database", url=self.servers.database_url),
            secret(
                "orderflow-notifications",
                **{
                    "notifications.toml": notifications,
                    "webhook-secret": self.servers.webhook_secret.read_text(),
                },
            ),
            secret("orderflow-api-keys", **{"api-keys.toml": self.api_keys_toml}),
        ]

    def _kustomization(self) -> Path:
        """A folder with the overlay, this run's image and this run's addresses."""
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
        """Applies the KafkaSources and waits until they are ready."""
        for file in sorted(_SOURCES.glob("*.yaml")):
            source = yaml.safe_load(file.read_text())
            if source["kind"] == "KafkaSource":
                source["spec"]["bootstrapServers"] = [self.servers.bootstrap]
                self.kube.apply(source)
        self.kube.kubectl("wait", "kafkasources", "--all", "--for=condition=Ready", "--timeout=180s")

    def deliver(self) -> None:
        """Deploys the sandbox's delivery, which reads the same manifests. It starts once the ConfigMap `orderflow`
        exists."""
        data = {file.name: file.read_text() for file in sorted(_SOURCES.glob("*.yaml"))}
        self.kube.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kafka-sources"}, "data": data}
        )
        text = (Path(__file__).parent / "delivery.yaml").read_text()
        self.kube.kubectl(
            "apply",
            "--filename=-",
            stdin=text.replace("image: orderflow-delivery", f"image: {self.options.delivery_image}"),
        )


def is_ready(document: dict[str, Any]) -> bool:
    """Whether the document is Ready in its latest generation."""
    status = document.get("status", {})
    is_observed = status.get("observedGeneration") == document["metadata"]["generation"]
    return is_observed and holds(status.get("conditions", []), "Ready")


def holds(conditions: list[dict[str, Any]], kind: str) -> bool:
    return any(condition["type"] == kind and condition["status"] == "True" for condition in conditions)


def secret(name: str, **values: str) -> dict[str, Any]:
    """An Opaque Secret with the values."""
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}
