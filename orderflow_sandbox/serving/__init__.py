"""Knative Serving's semantics on one machine: the cluster's Service manifests run as local processes.

| file | holds |
|---|---|
| manifest.py | what a Service manifest may say here |
| revisions.py | Service -> revisions and traffic, kept on disk |
| autoscaler.py | how many processes a load asks for (pure) |
| instance.py | one process of a revision |
| pool.py | a revision's processes, its queue and its breaker |
| routes.py | host name -> Service -> revision |
| proxy.py | the ASGI application that takes a request to a process |
| ingress.py | the ports, served by uvicorn |
| control.py | the loopback endpoint behind `orderflow apply` and `orderflow traffic` |
| serving.py | all of it together |
"""

from orderflow_sandbox.serving.control import Applied
from orderflow_sandbox.serving.manifest import ManifestError, Manifests, Service, load
from orderflow_sandbox.serving.options import ServingOptions
from orderflow_sandbox.serving.serving import Serving

__all__ = [
    "Applied",
    "ManifestError",
    "Manifests",
    "Service",
    "Serving",
    "ServingOptions",
    "load",
]
