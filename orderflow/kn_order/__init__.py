"""`kn order`: the command with which operators look at orders and act on them, over query's API."""
