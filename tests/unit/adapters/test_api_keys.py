"""API keys: who may call intake and query."""

import base64
from pathlib import Path

import pytest

from orderflow.adapters.http import api_keys
from orderflow.adapters.http.api_keys import ApiKeys
from orderflow.adapters.http.quotas import Quota
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
        (api_keys.toml(OTHER_ENTRY) * 2, "the same sha256"),
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


def principal_of(entry: api_keys.Key, key: str, tmp_path: Path) -> api_keys.Principal:
    path = tmp_path / "keys.toml"
    path.write_text(api_keys.toml(entry))
    owners = ["shop-1", "shop-2"]
    principal = ApiKeys.from_settings(ApiKeySettings(api_keys_file=path), "intake", owners).authenticate(
        {"x-api-key": key}
    )
    assert principal is not None
    return principal


def test_a_key_sends_only_its_kinds_and_only_for_its_owners_orders(tmp_path: Path) -> None:
    key, entry = api_keys.new_key("psp", ["intake"], kinds=["paid", "declined"], owner="shop-1")
    psp = principal_of(entry, key, tmp_path)
    assert psp.refusal("paid", "shop-1") is None
    refusals = [
        psp.refusal(kind, owner) for kind, owner in (("placed", "shop-1"), ("paid", "shop-2"), ("paid", None))
    ]
    assert [(each.code, each.field, each.text) for each in refusals if each] == [
        ("not_authorised", "type", "this API key may not send placed"),
        ("not_authorised", "subject", "this API key may send paid for orders of shop-1 only"),
        ("not_authorised", "subject", "this API key may send paid for orders of shop-1 only"),
    ]
    key, entry = api_keys.new_key("any", ["intake"])
    assert principal_of(entry, key, tmp_path).refusal("released", None) is None


def test_an_owner_that_the_rules_do_not_know_keeps_intake_from_starting(tmp_path: Path) -> None:
    _, entry = api_keys.new_key("shop-3", ["intake"], owner="shop-3")
    path = tmp_path / "keys.toml"
    path.write_text(api_keys.toml(entry))
    with pytest.raises(BadSettingsError, match=r"the key shop-3: owner: the rules have no owner shop-3"):
        ApiKeys.from_settings(ApiKeySettings(api_keys_file=path), "intake", ["shop-1"])


def test_an_unknown_kind_in_a_key_file_keeps_a_stage_from_starting(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(api_keys.toml(ENTRY) + 'kinds = ["payed"]\n')
    with pytest.raises(BadSettingsError, match=r"keys\.0\.kinds: payed is no kind of event"):
        ApiKeys.from_settings(ApiKeySettings(api_keys_file=path), "intake")


def test_while_a_key_is_replaced_the_old_and_the_new_one_are_one_client(tmp_path: Path) -> None:
    new_key, new_entry = api_keys.new_key("storefront", ["intake"], ["/shop/*"])
    path = tmp_path / "keys.toml"
    path.write_text(api_keys.toml(ENTRY) + api_keys.toml(new_entry))
    keys = ApiKeys.from_settings(ApiKeySettings(api_keys_file=path), "intake")
    assert keys.authenticate({"x-api-key": KEY}) == keys.authenticate({"x-api-key": new_key})
    assert keys.authenticate(basic("storefront", new_key)) is not None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"stages": ["intake", "query"]}, "stages"),
        ({"sources": ["/shop/other"]}, "sources"),
        ({"kinds": ["placed"]}, "kinds"),
        ({"owner": "shop-1"}, "owner"),
        ({"act": True}, "act"),
    ],
)
def test_two_keys_of_one_client_that_may_do_different_things_keep_a_stage_from_starting(
    changes: dict[str, object], field: str, tmp_path: Path
) -> None:
    other = api_keys.new_key("storefront", ["intake"], ["/shop/*"])[1].model_copy(
        update={name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}
    )
    path = tmp_path / "keys.toml"
    path.write_text(api_keys.toml(ENTRY) + api_keys.toml(other))
    with pytest.raises(BadSettingsError, match=f"two keys of the name storefront differ in {field}"):
        ApiKeys.from_settings(ApiKeySettings(api_keys_file=path), "intake")


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        (["--role", "storefront"], ("placed", "cancelled")),
        (["--role", "payment"], ("authorised", "paid", "declined", "refunded")),
        (["--role", "warehouse"], ("packed", "shipped", "delivered", "returned")),
        (["--kind", "paid", "--kind", "declined"], ("paid", "declined")),
        (["--role", "storefront", "--kind", "placed", "--kind", "held"], ("placed", "cancelled", "held")),
        ([], None),
    ],
)
def test_a_new_key_has_the_kinds_of_its_role_and_an_owner(
    arguments: list[str], kinds: tuple[str, ...] | None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert api_keys_command.main(["shop", "--stage", "intake", "--owner", "shop-1", *arguments]) == 0
    output = capsys.readouterr()
    path = tmp_path / "keys.toml"
    path.write_text(output.out)
    principal = ApiKeys.from_settings(ApiKeySettings(api_keys_file=path), "intake", ["shop-1"]).authenticate(
        {"x-api-key": output.err.strip().splitlines()[-1]}
    )
    assert principal is not None
    assert (principal.kinds, principal.owner) == (kinds, "shop-1")


def test_the_command_writes_a_quota_that_the_key_then_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = [
        "--requests-per-second",
        "0.5",
        "--burst",
        "7",
        "--bytes-per-second",
        "1000",
        "--in-flight",
        "3",
    ]
    assert api_keys_command.main(["storefront", "--stage", "intake", *limits]) == 0
    entry, key = capsys.readouterr()
    path = tmp_path / "keys.toml"
    path.write_text(entry)
    principal = ApiKeys.from_settings(ApiKeySettings(api_keys_file=path), "intake").authenticate(
        {"x-api-key": key.split()[-1]}
    )
    assert principal is not None
    assert principal.quota == Quota(0.5, 7, 1000, 3)


@pytest.mark.parametrize("limits", [["--burst", "1"], ["--requests-per-second", "0"], ["--in-flight", "-1"]])
def test_a_limit_that_means_nothing_is_refused(limits: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        api_keys_command.main(["storefront", *limits])
    assert "a limit is greater than zero" in capsys.readouterr().err
