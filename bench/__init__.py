"""`make bench`: what an order costs here, and what the same work costs elsewhere on the same machine.

Every contender gets the same events from the same broker and writes to the same database, in turn, for several
rounds; every run ends by counting what was lost and what came twice, and is void where that is not nothing.
Nothing here asserts a time.
"""
