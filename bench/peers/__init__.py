"""Track's work as an expert would write it with other libraries.

The decisions and the SQL are Orderflow's own (orderflow.track.decision, READ and WRITE of orderflow.track.store). So
the contenders differ in how events arrive, how many events share a statement and a commit, and what the library costs.
"""
