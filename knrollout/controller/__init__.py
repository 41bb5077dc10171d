"""The controller's process: when a rollout is reconciled, and by which replica."""
