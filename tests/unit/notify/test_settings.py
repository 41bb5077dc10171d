"""Which notification settings are refused, and what the defaults are."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from orderflow import settings
from orderflow.errors import BadSettingsError
from orderflow.notify.settings import NotificationSettings

ROOT = Path(__file__).parents[3]
SHOP = {"name": "Shop", "url": "https://shop.example"}
EMAIL = {"from": "Shop <orders@shop.example>", "smtp_url": "smtp://mail.example:25"}
HOOK = {"name": "erp", "url": "https://erp.example/in", "secret_file": "secret"}


def with_sections(**sections: Any) -> NotificationSettings:
    return NotificationSettings.model_validate({"shop": SHOP} | sections)


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"sms": {}}, "sms"),
        ({"email": EMAIL | {"colour": "red"}}, "colour"),
        ({"email": EMAIL | {"kinds": ["packed"]}}, "kinds"),
        ({"email": EMAIL | {"from": "nobody"}}, "from"),
        ({"email": EMAIL | {"from": "Shop\nBcc: x <orders@shop.example>"}}, "from"),
        ({"email": EMAIL | {"smtp_url": "http://mail.example"}}, "smtp_url"),
        ({"email": EMAIL | {"smtp_url": "smtp://me:secret@mail.example"}}, "smtp_url"),
        ({"email": EMAIL | {"user": "me"}}, "password_file"),
        ({"email": EMAIL | {"user": "me", "password_file": "p", "starttls": False}}, "starttls"),
        ({"webhooks": [HOOK | {"url": "http://erp.example"}]}, "allow_private"),
        ({"webhooks": [HOOK | {"name": "a b"}]}, "name"),
        ({"webhooks": [HOOK, HOOK]}, "same name"),
    ],
)
def test_a_bad_setting_is_refused_by_its_name_and_without_its_value(
    sections: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        with_sections(**sections)
    faults = caught.value.errors(include_input=False, include_url=False)
    assert named in str(faults)
    assert "me:secret" not in str(faults)


@pytest.mark.parametrize(
    ("url", "starttls", "upgrades"),
    [
        ("smtp://mail.example", None, True),
        ("smtp://mail.example", False, False),
        ("smtp://127.0.0.1:2525", None, False),
        ("smtp://localhost", True, True),
        ("smtps://mail.example", None, False),
    ],
)
def test_a_connection_that_leaves_the_machine_is_encrypted_unless_told_otherwise(
    url: str, starttls: bool | None, upgrades: bool
) -> None:
    email = with_sections(email=EMAIL | {"smtp_url": url, "starttls": starttls}).email
    assert email is not None
    assert email.upgrades is upgrades


def test_smtp_url_replaces_the_files_own_and_is_checked_like_it() -> None:
    settled = with_sections(email=EMAIL).with_smtp_url("smtp://127.0.0.1:2525").email
    assert settled is not None
    assert str(settled.smtp_url) == "smtp://127.0.0.1:2525"
    with pytest.raises(ValidationError):
        with_sections(email=EMAIL).with_smtp_url("ftp://mail.example")
    assert with_sections().with_smtp_url("smtp://127.0.0.1:2525").email is None


def test_the_example_file_is_valid() -> None:
    path = ROOT / "examples/notifications.toml"
    example = settings.read_toml(NotificationSettings, path, "NOTIFICATIONS_FILE")
    assert example.email is not None
    assert example.webhooks


def test_a_bad_file_names_setting_file_and_field(tmp_path: Path) -> None:
    path = tmp_path / "notifications.toml"
    path.write_text("[shop]\nname = 'x'\n")
    with pytest.raises(BadSettingsError, match=r"NOTIFICATIONS_FILE: .*notifications.toml: shop.url"):
        settings.read_toml(NotificationSettings, path, "NOTIFICATIONS_FILE")
