"""Values that are reused for a while."""

from orderflow.query.cached_value import CachedValue


def test_an_expensive_value_is_kept_for_ten_times_as_long_as_it_took() -> None:
    now = [0.0]
    computed_at = []

    def compute() -> int:
        computed_at.append(now[0])
        now[0] += 2
        return len(computed_at)

    cached = CachedValue(compute, seconds=1, clock=lambda: now[0])
    assert cached.get() == 1
    now[0] = 21.9
    assert cached.get() == 1
    now[0] = 22.1
    assert cached.get() == 2
