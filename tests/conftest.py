"""Hypothesis' settings for all tests."""

from hypothesis import settings

# No test asserts a time, and on a busy machine any example may take longer than Hypothesis' default of 200 ms.
settings.register_profile("orderflow", settings.default, deadline=None)
settings.load_profile("orderflow")
