"""An environment of the run: a namespace with everything that a deployment needs, and without Services."""

import base64
import json
from collections.abc import Mapping
from typing import Self

import yaml

from orderflow_sandbox.sandbox import ROOT
from tests.cluster.kube import Kube, run
from tests.cluster.servers import Servers
from tests.cluster.stack import Options, Stack
from tests.pipeline.registry import Registry
from tests.pipeline.site import PULL_SECRET
from tests.postman.__main__ import made_keys


class Shop(Stack):
    """Use as a context manager. `keys` are the API keys for the Postman collection."""

    def __init__(self, options: Options, servers: Servers, registry: Registry) -> None:
        super().__init__(options, servers)
        self._registry = registry
        self.keys, entries = made_keys()
        self.api_keys_toml += entries

    def deploy(self) -> None:
        self.prepare()
        rules = (ROOT / "examples/rules.toml").read_text()
        name = {"metadata": {"name": "orderflow-rules"}, "data": {"rules.toml": rules}}
        self.kube.apply({"apiVersion": "v1", "kind": "ConfigMap", **name}, self._pull_secret())
        self.deliver()

    def _pull_secret(self) -> dict[str, object]:
        login = base64.b64encode(f"{self._registry.user}:{self._registry.password}".encode()).decode()
        config = json.dumps({"auths": {self._registry.address: {"auth": login}}})
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": PULL_SECRET},
            "stringData": {".dockerconfigjson": config},
        }


class Deployer:
    """Use as a context manager: a service account with the rights that a deployment needs in one namespace."""

    def __init__(self, namespace: str) -> None:
        self._kube = Kube(namespace)
        self._namespace = namespace

    def __enter__(self) -> Self:
        self._kube.apply(*self._rights())
        return self

    def __exit__(self, *_: object) -> None:
        names = f"deployer-{self._namespace}"
        for kind in ("clusterrolebinding", "clusterrole"):
            run(["kubectl", "delete", kind, names, "--ignore-not-found"])

    def kubeconfig(self) -> bytes:
        token = self._kube.kubectl("create", "token", "deployer", "--duration=12h").strip()
        config = json.loads(run(["kubectl", "config", "view", "--raw", "--minify", "--output=json"]))
        config["users"] = [{"name": "deployer", "user": {"token": token}}]
        for context in config["contexts"]:
            context["context"] |= {"user": "deployer", "namespace": self._namespace}
        return yaml.safe_dump(config).encode()

    def _rights(self) -> list[Mapping[str, object]]:
        everything = ["get", "list", "watch", "create", "update", "patch", "delete"]
        groups = {
            "": ["serviceaccounts", "configmaps"],
            "batch": ["jobs", "cronjobs"],
            "policy": ["poddisruptionbudgets"],
            "networking.k8s.io": ["networkpolicies"],
            "serving.knative.dev": ["services"],
            "orderflow.dev": ["knativerollouts"],
        }
        rules = [
            {"apiGroups": [group], "resources": kinds, "verbs": everything} for group, kinds in groups.items()
        ]
        reading = {"apiGroups": ["serving.knative.dev"], "resources": ["revisions", "routes"]}
        runs = {"apiGroups": ["argoproj.io"], "resources": ["analysisruns"]}
        rules += [{**each, "verbs": ["get", "list", "watch"]} for each in (reading, runs)]
        rbac = "rbac.authorization.k8s.io"
        subject = {"kind": "ServiceAccount", "name": "deployer", "namespace": self._namespace}
        cluster = {"metadata": {"name": f"deployer-{self._namespace}"}}
        # The overlay contains the Namespace, and a Namespace is a cluster resource.
        own = {"apiGroups": [""], "resources": ["namespaces"], "resourceNames": [self._namespace]}
        return [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "deployer"}},
            {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": {"name": "deployer"}, "rules": rules},
            _binding("Role", {"metadata": {"name": "deployer"}}, subject),
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRole",
                **cluster,
                "rules": [{**own, "verbs": ["get", "patch", "update"]}],
            },
            _binding("ClusterRole", cluster, subject),
        ]


def _binding(
    kind: str, named: Mapping[str, Mapping[str, str]], subject: Mapping[str, str]
) -> Mapping[str, object]:
    rbac = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{rbac}/v1",
        "kind": f"{kind}Binding",
        **named,
        "subjects": [subject],
        "roleRef": {"apiGroup": rbac, "kind": kind, "name": named["metadata"]["name"]},
    }
