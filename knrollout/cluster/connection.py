"""Connects to the cluster of this pod or of the kubeconfig."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from kubernetes import config
from kubernetes.client import ApiClient, Configuration

from knrollout.cluster.errors import ClusterError
from knrollout.cluster.kubernetes import TIMEOUT_SECONDS, KubernetesCluster
from knrollout.version import version

_POD_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def connect(context: str | None = None, timeout_seconds: float = TIMEOUT_SECONDS) -> KubernetesCluster:
    """context: of the kubeconfig. Raises ClusterError."""
    return KubernetesCluster(open_client(context), timeout_seconds)


def open_client(context: str | None = None) -> ApiClient:
    """In a pod: with its service account, unless a context is named. Raises ClusterError."""
    configuration = Configuration()
    try:
        if context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=configuration)
        else:
            config.load_kube_config(_kubeconfig(), context, client_configuration=configuration)
    except config.ConfigException as error:
        raise ClusterError(f"no cluster is configured: {error}") from error
    configuration.retries = False  # the callers decide when to try again
    client = ApiClient(configuration)
    client.user_agent = f"knrollout/{version()}"
    return client


def configured_namespace(context: str | None = None) -> str:
    """In a pod its own namespace; elsewhere the namespace of the kubeconfig's context, or `default`."""
    if context is None and "KUBERNETES_SERVICE_HOST" in os.environ and _POD_NAMESPACE.is_file():
        return _POD_NAMESPACE.read_text()
    try:
        contexts, current = config.list_kube_config_contexts(_kubeconfig())
    except config.ConfigException:
        return "default"
    selected = next((entry for entry in contexts if entry["name"] == context), current)
    return str(selected["context"].get("namespace") or "default")


def _kubeconfig() -> str | None:
    """The client library reads the variable only once, at its import."""
    return os.environ.get("KUBECONFIG")
