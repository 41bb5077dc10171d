"""`make bench`: the cost of an order in Orderflow, and of the same work in other systems on the same machine.

Every contender gets the same events from the same broker and writes to the same database. The contenders run in turn,
for several rounds. Every run ends with a count of lost and duplicated events; a run with any is void. No benchmark
asserts a time.
"""
