"""Track's work with other libraries, as an expert in them would write it.

The decisions and the SQL are Orderflow's own (orderflow.track.decision, READ and WRITE of orderflow.track.store). So
the contenders differ in how events arrive, in how many events share a statement and a commit, and in the cost of the
library.
"""
