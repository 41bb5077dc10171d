"""The cluster in memory behind HTTP: as much of the Kubernetes API as the controller and the command use."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from support.fake_cluster import NAMESPACE, FakeCluster

KINDS = {
    "knativerollouts": "rollout",
    "services": "service",
    "revisions": "revision",
    "pods": "pod",
    "analysisruns": "run",
    "analysistemplates": "template",
    "clusteranalysistemplates": "cluster template",
    "events": "event",
}


class KubeApi:
    """Serves one cluster. Watches and discovery are missing."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.lock = threading.Lock()
        self.requests: set[tuple[str, str, str]] = set()
        """(group, resource, verb) of every request, as RBAC names them."""

    def handle(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        parts = path.partition("?")[0].strip("/").split("/")[2 if path.startswith("/api/") else 3 :]
        if parts[0] == "namespaces":
            parts = parts[2:]
        name, status = [*parts[1:], "", ""][:2]
        group = "" if path.startswith("/api/") else path.split("/")[2]
        self.requests.add((group, "/".join(filter(None, [parts[0], status])), _verb(method, name)))
        with self.lock:
            return self._dispatch(method, KINDS[parts[0]], name, status, body)

    def _dispatch(self, method: str, kind: str, name: str, status: str, body: Any) -> tuple[int, Any]:
        if method == "POST":
            return self._create(kind, body)
        if method == "GET" and not name:
            items = [document for (each, _), document in self.cluster.objects.items() if each == kind]
            return 200, {"items": items, "metadata": {}}
        stored = self.cluster.objects.get((kind, name))
        if stored is None:
            return 404, {"reason": "NotFound"}
        if method == "GET":
            return 200, stored
        if method == "DELETE":
            self.cluster.remove(kind, name)
            return 200, {}
        version = body["metadata"].get("resourceVersion") if "metadata" in body else None
        if version not in {None, stored["metadata"]["resourceVersion"]}:
            return 409, {"reason": "Conflict"}
        if method == "PUT" and status:
            self.cluster.write_status(stored, body["status"])
        else:
            self._merge(kind, stored, body)
        return 200, self.cluster.objects[kind, name]

    def _create(self, kind: str, body: Any) -> tuple[int, Any]:
        body["metadata"].setdefault("name", f"{kind}-{len(self.cluster.objects)}")
        if (kind, body["metadata"]["name"]) in self.cluster.objects:
            return 409, {"reason": "AlreadyExists"}
        return 201, self.cluster.add(kind, body)

    def _merge(self, kind: str, stored: Any, patch: Any) -> None:
        before = json.dumps(stored.get("spec"))
        _merge_patch(stored, {key: value for key, value in patch.items() if key != "status"})
        if json.dumps(stored.get("spec")) != before:
            stored["metadata"]["generation"] += 1
        self.cluster._touch(stored)


def _verb(method: str, name: str) -> str:
    if method == "GET":
        return "get" if name else "list"
    return {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[method]


def _merge_patch(stored: dict[str, Any], patch: dict[str, Any]) -> None:
    """RFC 7396."""
    for key, value in patch.items():
        if value is None:
            stored.pop(key, None)
        elif isinstance(value, dict) and isinstance(stored.get(key), dict):
            _merge_patch(stored[key], value)
        else:
            stored[key] = value


@contextlib.contextmanager
def serve_cluster(cluster: FakeCluster, folder: Path) -> Iterator[Path]:
    """Yields a kubeconfig for the cluster."""
    with serve(KubeApi(cluster), folder) as kubeconfig:
        yield kubeconfig


@contextlib.contextmanager
def serve(api: KubeApi, folder: Path) -> Iterator[Path]:

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet an answer: two would wait for each other

        def do_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            code, answer = api.handle(self.command, self.path, body)
            payload = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: Any) -> None:
            pass

    for verb in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{verb}", Handler.do_any)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield _kubeconfig(folder, server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _kubeconfig(folder: Path, port: int) -> Path:
    file = folder / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [
            {"name": "test", "context": {"cluster": "test", "user": "test", "namespace": NAMESPACE}}
        ],
    }
    file.write_text(yaml.safe_dump(config))
    return file
