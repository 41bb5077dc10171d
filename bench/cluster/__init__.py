"""`make bench-cluster`: the cost of a deployment on a cluster, and how fast it starts from zero."""
