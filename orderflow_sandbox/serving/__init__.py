"""Knative Serving's semantics on one machine: the cluster's Service manifests run as local processes.

| file | holds |
|---|---|
| manifest.py | what a Service manifest may say here |
| revisions.py | Service -> revisions and traffic, kept on disk |
| autoscaler.py | how many processes a load asks for (pure) |
| instance.py | one process of a revision |
| pool.py | a revision's processes, its queue and its breaker |
| exchange.py, caller.py, link.py | one proxied request, the side that asks, the side that answers |
| ingress.py | host name -> Service -> revision |
| control.py | the loopback endpoint behind `orderflow apply` and `orderflow traffic` |
| serving.py | all of it together |
"""

from orderflow_sandbox.serving.manifest import ManifestError, Manifests, Service, load
from orderflow_sandbox.serving.options import ServingOptions
from orderflow_sandbox.serving.serving import Applied, Serving

__all__ = [
    "Applied",
    "ManifestError",
    "Manifests",
    "Service",
    "Serving",
    "ServingOptions",
    "load",
]
