"""Reads from and writes to the Kubernetes API server."""
