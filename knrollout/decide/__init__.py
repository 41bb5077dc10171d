"""The controller's decisions as pure functions: from a snapshot of the cluster to a status, actions and events."""
