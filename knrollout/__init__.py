"""Canary releases of Knative Services: Argo Rollouts' canary strategy, configured by `KnativeRollout` resources.

Rooms, each of which imports only those after it: `cli` and `controller`, `cluster`, `decide`, `api`. The package
imports nothing of orderflow and serves any Knative Service.
"""
