"""What a deployment on a cluster costs and how fast it wakes up; `make bench-cluster`."""
