"""Canary releases for Knative Services: Argo Rollouts' canary strategy, driven by `KnativeRollout` resources.

It imports nothing of orderflow and serves any Knative Service.
"""
