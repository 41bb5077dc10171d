"""Track's work as an expert would write it with other libraries.

The decisions and the SQL are Orderflow's own (orderflow.track.decision, READ and WRITE of orderflow.track.store), so that what differs is how events get there, how many of them share a statement and a commit, and what the
library itself costs.
"""
