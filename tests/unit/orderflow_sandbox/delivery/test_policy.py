"""What answers mean and how long retries wait, as measured against the data plane."""

import pytest

from orderflow_sandbox.delivery.manifest import WITHOUT_DELIVERY_BLOCK
from orderflow_sandbox.delivery.policy import Backoff, Decision, decide


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_success(status: int) -> None:
    assert decide(status) is Decision.SUCCESS


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 501, 502, 503, 504, 507, 599])
def test_these_are_retried(status: int) -> None:
    assert decide(status) is Decision.RETRY


@pytest.mark.parametrize("status", [300, 301, 302, 304, 307, 308, 400, 401, 403, 405, 410, 413, 422, 425])
def test_these_go_to_the_dead_letter_sink_at_once(status: int) -> None:
    assert decide(status, location=True) is Decision.FAIL


def test_303_is_followed_and_its_get_like_any_redirect() -> None:
    assert decide(303, location=True) is Decision.FOLLOW
    assert decide(303) is Decision.FAIL
    assert decide(301, method="GET", location=True) is Decision.FOLLOW


def test_exponential_waits_start_at_twice_the_delay() -> None:
    backoff = Backoff(retries=3, delay=0.5, linear=False, timeout=1)
    assert [backoff.wait(retry) for retry in (1, 2, 3, 4)] == [1.0, 2.0, 4.0, None]


def test_linear_waits_are_multiples_of_the_delay() -> None:
    backoff = Backoff(retries=3, delay=0.5, linear=True, timeout=1)
    assert [backoff.wait(retry) for retry in (1, 2, 3, 4)] == [0.5, 1.0, 1.5, None]


def test_a_delay_of_zero_disables_retries() -> None:
    assert Backoff(retries=3, delay=0, linear=True, timeout=1).wait(1) is None


def test_without_a_delivery_block_a_partition_is_blocked_for_614_seconds() -> None:
    backoff = Backoff.of(WITHOUT_DELIVERY_BLOCK)
    waits = [backoff.wait(retry) or 0.0 for retry in range(1, 12)]
    assert sum(waits) == pytest.approx(613.8)
