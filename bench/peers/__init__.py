"""Track's work as an expert would write it with other libraries.

The decisions and the SQL are Orderflow's own (orderflow.tracking, READ and WRITE of orderflow.adapters.postgres),
so that what differs is how events get there, how many of them share a statement and a commit, and what the
library itself costs.
"""
