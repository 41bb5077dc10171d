"""When the issuer's keys are fetched, and what is believed while they cannot be fetched."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from orderflow.adapters.http.token_verifier import (
    KEEP_SECONDS,
    REFETCH_SECONDS,
    REFRESH_SECONDS,
    KeySetClient,
    SigningKeys,
)
from orderflow.errors import BadSettingsError, TransientError
from orderflow.settings import ParkSettings, TokenRules


class FakeIssuer:
    def __init__(self) -> None:
        self.now = 1000.0
        self.published: set[str] = {"a"}
        self.away = False
        self.fetches = 0

    def clock(self) -> float:
        return self.now

    async def fetch(self) -> Mapping[str, Any]:
        self.fetches += 1
        await asyncio.sleep(0)
        if self.away:
            raise TransientError("away")
        return {name: name for name in self.published}


@pytest.fixture
def issuer() -> FakeIssuer:
    return FakeIssuer()


@pytest.fixture
def keys(issuer: FakeIssuer) -> SigningKeys:
    return SigningKeys(issuer.fetch, issuer.clock)


async def test_events_at_once_fetch_the_keys_once(issuer: FakeIssuer, keys: SigningKeys) -> None:
    assert await asyncio.gather(*(keys.get("a") for _ in range(50))) == ["a"] * 50
    assert issuer.fetches == 1


async def test_unknown_keys_do_not_flood_the_issuer(issuer: FakeIssuer, keys: SigningKeys) -> None:
    for number in range(100):
        assert await keys.get(f"forged-{number}") is None
    assert issuer.fetches == 1
    issuer.now += REFETCH_SECONDS
    issuer.published = {"b"}
    assert await keys.get("b") == "b"
    assert await keys.get("a") is None
    assert issuer.fetches == 2


async def test_a_key_that_the_issuer_has_withdrawn_is_forgotten(
    issuer: FakeIssuer, keys: SigningKeys
) -> None:
    assert await keys.get("a") == "a"
    issuer.published = {"b"}
    issuer.now += REFRESH_SECONDS
    assert await keys.get("a") is None


async def test_known_keys_outlast_an_absence_of_the_issuer_for_a_time_and_no_longer(
    issuer: FakeIssuer, keys: SigningKeys
) -> None:
    assert await keys.get("a") == "a"
    issuer.away = True
    issuer.now += KEEP_SECONDS
    assert await keys.get("a") == "a"
    issuer.now += 1
    with pytest.raises(TransientError, match="away"):
        await keys.get("a")


async def test_an_issuer_that_was_never_reached_is_no_consent(issuer: FakeIssuer, keys: SigningKeys) -> None:
    issuer.away = True
    for _ in range(10):
        with pytest.raises(TransientError, match="away"):
            await keys.get("a")
    assert issuer.fetches == 1


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"oidc_issuer": "https://i.example"}, "OIDC_AUDIENCE, OIDC_SUBJECTS:"),
        ({"oidc_issuer": "https://i.example", "oidc_audience": "a"}, "OIDC_SUBJECTS:"),
        ({"oidc_audience": "a", "oidc_subjects": "s"}, "OIDC_ISSUER:"),
        ({"oidc_issuer": "https://i.example", "oidc_audience": "a", "oidc_subjects": " "}, "OIDC_SUBJECTS:"),
        ({"oidc_token_file": "/token"}, "OIDC_ISSUER, OIDC_AUDIENCE, OIDC_SUBJECTS:"),
    ],
)
def test_a_part_of_the_settings_is_refused_and_the_missing_ones_are_named(
    changes: dict[str, Any], missing: str
) -> None:
    with pytest.raises(BadSettingsError, match=missing):
        ParkSettings(kafka_bootstrap="h:1", **changes).token_rules()


def test_without_any_of_the_settings_no_sender_is_verified() -> None:
    assert ParkSettings(kafka_bootstrap="h:1").token_rules() is None


def test_a_missing_file_of_certificates_is_named(tmp_path: Any) -> None:
    rules = TokenRules("https://i.example", "a", frozenset({"s"}), None, tmp_path / "none.crt", None)
    with pytest.raises(BadSettingsError, match=r"OIDC_CA_FILE: cannot read .*none\.crt"):
        KeySetClient(rules)
