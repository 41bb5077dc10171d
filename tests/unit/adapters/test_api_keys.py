"""API keys: who may call intake and query."""

import base64
from pathlib import Path

import pytest

from orderflow.adapters.http import api_keys
from orderflow.adapters.http.api_keys import ApiKeys
from orderflow.commands import api_keys as api_keys_command
from orderflow.errors import BadSettingsError
from orderflow.settings import ApiKeySettings

KEY, ENTRY = api_keys.new_key("storefront", ["intake"], ["/shop/*"])
OTHER_KEY, OTHER_ENTRY = api_keys.new_key("desk", ["query", "intake"])


@pytest.fixture
def settings(tmp_path: Path) -> ApiKeySettings:
    path = tmp_path / "keys.toml"
    path.write_text(api_keys.toml(ENTRY) + "\n" + api_keys.toml(OTHER_ENTRY))
    return ApiKeySettings(api_keys_file=path)


def test_a_key_may_act_only_where_its_entry_says_so(tmp_path: Path) -> None:
    operator_key, entry = api_keys.new_key("anna", ["query"], act=True)
    path = tmp_path / "keys.toml"
    path.write_text(api_keys.toml(entry) + "\n" + api_keys.toml(OTHER_ENTRY))
    keys = ApiKeys.from_settings(ApiKeySettings(api_keys_file=path), "query")
    principals = [keys.authenticate({"x-api-key": key}) for key in (operator_key, OTHER_KEY)]
    assert [principal and principal.may("act") for principal in principals] == [True, False]


def basic(name: str, key: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{key}".encode()).decode()}


def test_a_key_is_taken_as_bearer_as_header_and_as_the_password_of_its_name(settings: ApiKeySettings) -> None:
    keys = ApiKeys.from_settings(settings, "intake")
    for headers in (
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY}"},
        {"x-api-key": KEY},
        basic("storefront", KEY),
    ):
        principal = keys.authenticate(headers)
        assert principal is not None
        assert principal.name == "storefront"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Digest {KEY}"},
        {"authorization": "Basic !!"},
        {"authorization": "Basic " + base64.b64encode(b"\xff:\xfe").decode()},
        {"authorization": "Basic " + base64.b64encode(b"nocolon").decode()},
        {"x-api-key": "\udc80"},
        {"x-api-key": "x" * 5000},
        {"x-api-key": ENTRY.sha256},
        basic("desk", KEY),
        basic("", KEY),
    ],
)
def test_whoever_brings_no_key_of_ours_stays_outside(
    headers: dict[str, str], settings: ApiKeySettings
) -> None:
    assert ApiKeys.from_settings(settings, "intake").authenticate(headers) is None


def test_a_key_opens_only_the_stages_that_it_is_for(settings: ApiKeySettings) -> None:
    query = ApiKeys.from_settings(settings, "query")
    assert query.authenticate({"x-api-key": KEY}) is None
    assert query.authenticate({"x-api-key": OTHER_KEY}) is not None


def test_a_client_sends_only_the_sources_that_its_key_names(settings: ApiKeySettings) -> None:
    keys = ApiKeys.from_settings(settings, "intake")
    shop, desk = keys.authenticate({"x-api-key": KEY}), keys.authenticate({"x-api-key": OTHER_KEY})
    assert shop is not None
    assert desk is not None
    assert shop.may_send("/shop/berlin")
    assert not shop.may_send("/payments")
    assert desk.may_send("/anything")


def test_without_a_key_file_a_stage_refuses_to_start_unless_told_that_it_is_a_local_run() -> None:
    with pytest.raises(BadSettingsError, match="API_KEYS_FILE"):
        ApiKeys.from_settings(ApiKeySettings(), "query")
    principal = ApiKeys.from_settings(ApiKeySettings(local_run=True), "query").authenticate({})
    assert principal is not None
    assert principal.may_send("/anything")


def test_a_local_run_with_a_key_file_asks_for_keys_all_the_same(settings: ApiKeySettings) -> None:
    keys = ApiKeys.from_settings(
        ApiKeySettings(api_keys_file=settings.api_keys_file, local_run=True), "query"
    )
    assert keys.authenticate({}) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no key is for query"),
        ("[[keys]", "not TOML"),
        ('[[keys]]\nname = "a:b"\nsha256 = "00"\nstages = ["track"]', "keys.0.name"),
        (api_keys.toml(OTHER_ENTRY) * 2, "the same name"),
        (
            api_keys.toml(OTHER_ENTRY) + api_keys.toml(OTHER_ENTRY).replace("desk", "bench"),
            "the same sha256",
        ),
        (api_keys.toml(ENTRY), "no key is for query"),
    ],
)
def test_a_key_file_that_cannot_be_right_keeps_the_stage_from_starting(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(BadSettingsError, match=message) as caught:
        ApiKeys.from_settings(ApiKeySettings(api_keys_file=path), "query")
    assert "API_KEYS_FILE" in str(caught.value)


def test_a_new_key_is_shown_once_apart_from_its_entry(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert api_keys_command.main(["berlin", "--stage", "intake", "--source", "/shop/berlin"]) == 0
    output = capsys.readouterr()
    key = output.err.strip().splitlines()[-1]
    path = tmp_path / "keys.toml"
    path.write_text(output.out)
    principal = ApiKeys.from_settings(ApiKeySettings(api_keys_file=path), "intake").authenticate(
        {"x-api-key": key}
    )
    assert principal is not None
    assert principal.name == "berlin"
    assert key not in output.out


@pytest.mark.parametrize("arguments", [["a:b"], ["shop", "--source", 'a"b'], ["shop", "--stage", "track"]])
def test_a_key_that_could_not_be_read_back_is_not_made(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        api_keys_command.main(arguments)
