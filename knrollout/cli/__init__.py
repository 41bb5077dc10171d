"""The command `kn-rollout`, which `kn` runs as `kn rollout`."""
