"""Which status events give which messages, and which settings are refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError
from support.statuses import announced

from orderflow import settings
from orderflow.errors import BadSettingsError, PoisonError
from orderflow.notify.model import CustomerKind, NotificationSettings, StatusKind, due, read

ROOT = Path(__file__).parents[3]
SHOP = {"name": "Shop", "url": "https://shop.example"}
EMAIL = {"from": "Shop <orders@shop.example>", "smtp_url": "smtp://mail.example:25"}
HOOK = {"name": "erp", "url": "https://erp.example/in", "secret_file": "secret"}


def told(**sections: Any) -> NotificationSettings:
    return NotificationSettings.model_validate({"shop": SHOP} | sections)


def places(kind: str, **sections: Any) -> list[str]:
    event = announced(kind)
    return [message.place for message in due(event, read(event), told(**sections))]


@pytest.mark.parametrize("kind", get_args(CustomerKind))
def test_a_customer_is_told_by_mail_of_what_matters_to_them(kind: str) -> None:
    assert places(kind, email=EMAIL) == ["email"]


@pytest.mark.parametrize("kind", ["packed", "authorised", "released"])
def test_a_customer_is_not_told_of_what_is_the_shops_own_business(kind: str) -> None:
    assert places(kind, email=EMAIL) == []


@pytest.mark.parametrize("kind", get_args(StatusKind))
def test_an_endpoint_without_kinds_is_told_of_every_change(kind: str) -> None:
    assert places(kind, webhooks=[HOOK]) == ["webhook.erp"]


def test_kinds_narrow_each_channel_and_endpoint_for_itself() -> None:
    sections = {
        "email": EMAIL | {"kinds": ["shipped"]},
        "webhooks": [HOOK, HOOK | {"name": "crm", "kinds": ["paid"]}],
    }
    assert places("paid", **sections) == ["webhook.erp", "webhook.crm"]
    assert places("shipped", **sections) == ["email", "webhook.erp"]


def test_without_an_email_section_there_is_no_email() -> None:
    assert places("accepted") == []


def test_the_recipient_is_the_address_in_the_order() -> None:
    event = announced("accepted", customer={"name": "Bo", "email": "bo@example.org"})
    (message,) = due(event, read(event), told(email=EMAIL))
    assert message.recipient == "bo@example.org"


def test_a_field_that_a_newer_track_adds_is_passed_over() -> None:
    event = announced("accepted")
    newer = json.loads(event.data) | {"warehouse": "north"}
    assert read(replace(event, data=json.dumps(newer).encode())) == read(event)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"source": "/shop/test"}, "source_unknown"),
        ({"type": "dev.orderflow.order.paid.v1"}, "type_mismatch"),
        ({"subject": "another"}, "order_id_mismatch"),
        ({"data": b"no JSON"}, "json_invalid"),
        ({"data": b"{}"}, "missing"),
    ],
)
def test_what_track_did_not_announce_is_poison(change: dict[str, Any], code: str) -> None:
    with pytest.raises(PoisonError) as caught:
        read(replace(announced("accepted"), **change))
    assert caught.value.reasons[0].code == code


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
        told(**sections)
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
    email = told(email=EMAIL | {"smtp_url": url, "starttls": starttls}).email
    assert email is not None
    assert email.upgrades is upgrades


def test_smtp_url_replaces_the_files_own_and_is_checked_like_it() -> None:
    settled = told(email=EMAIL).with_smtp_url("smtp://127.0.0.1:2525").email
    assert settled is not None
    assert str(settled.smtp_url) == "smtp://127.0.0.1:2525"
    with pytest.raises(ValidationError):
        told(email=EMAIL).with_smtp_url("ftp://mail.example")
    assert told().with_smtp_url("smtp://127.0.0.1:2525").email is None


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
