"""A stage with a bad setting does not start, and the error names the setting."""

from pathlib import Path

import pytest

from orderflow import settings
from orderflow.domain.rules import Rules
from orderflow.errors import BadSettingsError
from orderflow_sandbox.sandbox import ROOT


def test_every_missing_or_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP", raising=False)
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:canary@host/db")
    monkeypatch.delenv("RULES_FILE", raising=False)
    with pytest.raises(BadSettingsError) as caught:
        settings.load(settings.TrackSettings)
    assert "KAFKA_BOOTSTRAP" in str(caught.value)
    assert "RULES_FILE" in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("currencies = [", "is not TOML"),
        ('currencies = ["XXX"]', "currencies"),
        ("curencies = []", "curencies"),
        ("[limits]\nlines = 0", "limits.lines"),
        ("[catalogue.MUG]\nprices = { EUR = -1 }", "catalogue.MUG.prices.EUR"),
    ],
)
def test_a_bad_rules_file_is_named_with_its_field(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(text)
    with pytest.raises(BadSettingsError) as caught:
        settings.read_toml(Rules, file, "RULES_FILE")
    assert "RULES_FILE" in str(caught.value)
    assert str(file) in str(caught.value)
    assert message in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSettingsError, match=r"RULES_FILE: cannot read .*none\.toml"):
        settings.read_toml(Rules, tmp_path / "none.toml", "RULES_FILE")


def test_the_example_rules_are_valid() -> None:
    rules = settings.read_toml(Rules, ROOT / "examples/rules.toml", "RULES_FILE")
    assert "EUR" in rules.currencies


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG_LEVEL", "loud"),
        ("KAFKA_ACK_SECONDS", "0"),
        ("KAFKA_ACK_SECONDS", "0.0001"),
        ("KAFKA_ACK_SECONDS", "soon"),
        ("DATABASE_URL", "mysql://host/canary"),
        ("DATABASE_POOL_SIZE", "0"),
    ],
)
def test_each_bad_setting_is_named_and_not_quoted(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for setting, text in (("KAFKA_BOOTSTRAP", "h:1"), ("DATABASE_URL", "postgresql://h/d"), (name, value)):
        monkeypatch.setenv(setting, text)
    with pytest.raises(BadSettingsError) as caught:
        settings.load(settings.TrackSettings)
    assert f"{name}:" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "canary" not in str(caught.value)


def test_an_empty_setting_is_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "")
    with pytest.raises(BadSettingsError, match="KAFKA_BOOTSTRAP"):
        settings.load(settings.KafkaSettings)


def test_the_databases_url_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://user:canary@host/db\n")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("DATABASE_URL_FILE", str(file))
    url = settings.load(settings.DatabaseSettings).database_url
    assert url.get_secret_value() == "postgresql://user:canary@host/db"


@pytest.mark.parametrize(
    ("content", "variable", "message"),
    [
        ("mysql://user:canary@host/db", "", "DATABASE_URL: it must begin with postgresql://"),
        (None, "", "DATABASE_URL_FILE: cannot read"),
        ("postgresql://canary@host/db", "postgresql://canary@other/db", "DATABASE_URL_FILE is set as well"),
    ],
)
def test_a_file_that_gives_no_url_is_named_and_not_quoted(
    content: str | None, variable: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("DATABASE_URL_FILE", str(file))
    monkeypatch.setenv("DATABASE_URL", variable)
    with pytest.raises(BadSettingsError) as caught:
        settings.load(settings.DatabaseSettings)
    assert message in str(caught.value)
    assert "canary" not in str(caught.value)


LOGIN = {
    "KAFKA_BOOTSTRAP": "h:1",
    "DATABASE_URL": "postgresql://h/d",
    "PUBLIC_URL": "https://console.example/",
    "CONSOLE_OIDC_ISSUER": "https://issuer.example",
    "CONSOLE_OIDC_CLIENT_ID": "console",
    "CONSOLE_OIDC_CLIENT_SECRET": "canary",
    "CONSOLE_OIDC_ROLES": '{"operators": ["act"]}',
    "CONSOLE_SESSION_SECRET": "canary-" * 5,
}


def login_with(monkeypatch: pytest.MonkeyPatch, **values: str) -> settings.LoginSettings | None:
    for name, value in (LOGIN | values).items():
        monkeypatch.setenv(name, value)
    return settings.load(settings.QuerySettings).login()


def test_logins_need_all_their_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    login = login_with(monkeypatch)
    assert login is not None
    assert (login.public_url, login.secure) == ("https://console.example", True)
    assert login_with(monkeypatch, **dict.fromkeys((name for name in LOGIN if "CONSOLE" in name), "")) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "") for name in LOGIN if name.startswith(("CONSOLE", "PUBLIC"))),
        ("CONSOLE_OIDC_ISSUER", "http://issuer.example"),
        ("PUBLIC_URL", "http://console.example"),
        ("CONSOLE_OIDC_ROLES", '{"operators": ["everything"]}'),
        ("CONSOLE_OIDC_ROLES", "operators"),
        ("CONSOLE_OIDC_SCOPES", "email"),
        ("CONSOLE_SESSION_SECRET", "canary"),
        ("CONSOLE_SESSION_HOURS", "0"),
    ],
)
def test_a_missing_or_unsafe_setting_of_logins_is_named_and_not_quoted(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadSettingsError) as caught:
        login_with(monkeypatch, **{name: value})
    assert name in str(caught.value)
    assert "canary" not in str(caught.value)


def test_the_secrets_of_logins_may_come_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    file.write_text("f" * 32 + "\n")
    for name in ("CONSOLE_OIDC_CLIENT_SECRET", "CONSOLE_SESSION_SECRET"):
        monkeypatch.setenv(f"{name}_FILE", str(file))
    login = login_with(monkeypatch, CONSOLE_OIDC_CLIENT_SECRET="", CONSOLE_SESSION_SECRET="")
    assert login is not None
    assert login.session_secret.get_secret_value() == "f" * 32
