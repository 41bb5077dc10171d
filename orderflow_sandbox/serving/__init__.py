"""Knative Serving on one machine: it runs the cluster's Service manifests as local processes, with Knative's semantics.

| file | holds |
|---|---|
| manifest.py, service.py, scale.py | reading manifests; what a Service may contain here |
| revisions.py | the revisions and traffic of each Service, kept on disk |
| launch.py | a container as the command and environment of a process |
| autoscaler.py | how many processes a load needs (pure) |
| instance.py | one process of a revision |
| restarts.py | when a process that failed may be started again |
| pool.py | a revision's processes, and the queue of requests that wait for one |
| routes.py | host name -> Service -> revision |
| proxy.py | the ASGI application that forwards a request to a process |
| ingress.py | the ports, which uvicorn serves |
| control.py | the endpoint of `orderflow apply` and `orderflow traffic` |
| serving.py | puts these together |
"""

from orderflow_sandbox.serving.control import Applied
from orderflow_sandbox.serving.errors import ManifestError
from orderflow_sandbox.serving.manifest import Manifests, load
from orderflow_sandbox.serving.options import ServingOptions
from orderflow_sandbox.serving.service import Service
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
