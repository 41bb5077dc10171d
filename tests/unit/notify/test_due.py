"""Which notifications a status event gives."""

from dataclasses import replace
from typing import Any, get_args

import pytest
from support.statuses import announced

from orderflow.errors import PoisonError
from orderflow.notify.due import is_due, notifications
from orderflow.notify.model import CustomerKind, StatusKind
from orderflow.notify.settings import NotificationSettings

SHOP = {"name": "Shop", "url": "https://shop.example"}
EMAIL = {"from": "Shop <orders@shop.example>", "smtp_url": "smtp://mail.example:25"}
HOOK = {"name": "erp", "url": "https://erp.example/in", "secret_file": "secret"}


def with_sections(**sections: Any) -> NotificationSettings:
    return NotificationSettings.model_validate({"shop": SHOP} | sections)


def targets(kind: str, **sections: Any) -> list[str]:
    return [each.target for each in notifications(announced(kind), with_sections(**sections))]


@pytest.mark.parametrize("kind", get_args(CustomerKind))
def test_a_customer_is_told_by_mail_of_what_matters_to_them(kind: str) -> None:
    assert targets(kind, email=EMAIL) == ["email"]


@pytest.mark.parametrize("kind", ["packed", "authorised", "released"])
def test_a_customer_is_not_told_of_what_is_the_shops_own_business(kind: str) -> None:
    assert targets(kind, email=EMAIL) == []


@pytest.mark.parametrize("kind", get_args(StatusKind))
def test_an_endpoint_without_kinds_is_told_of_every_change(kind: str) -> None:
    assert targets(kind, webhooks=[HOOK]) == ["webhook.erp"]


def test_kinds_narrow_each_channel_and_endpoint_for_itself() -> None:
    sections = {
        "email": EMAIL | {"kinds": ["shipped"]},
        "webhooks": [HOOK, HOOK | {"name": "crm", "kinds": ["paid"]}],
    }
    assert targets("paid", **sections) == ["webhook.erp", "webhook.crm"]
    assert targets("shipped", **sections) == ["email", "webhook.erp"]


def test_without_an_email_section_there_is_no_email() -> None:
    assert targets("accepted") == []


def test_the_recipient_is_the_address_in_the_order() -> None:
    event = announced("accepted", customer={"name": "Bo", "email": "bo@example.org"})
    (notification,) = notifications(event, with_sections(email=EMAIL))
    assert notification.recipient == "bo@example.org"


@pytest.mark.parametrize(
    ("sections", "disabled", "expected"),
    [
        ({"webhooks": [HOOK]}, set(), True),
        ({"webhooks": [HOOK]}, {"erp"}, False),
        ({"webhooks": [HOOK, HOOK | {"name": "crm"}]}, {"erp"}, True),
        ({"webhooks": [HOOK], "email": EMAIL}, {"erp", "email"}, True),
        ({}, set(), False),
    ],
)
def test_an_event_is_due_while_it_has_a_recipient_that_is_not_disabled(
    sections: dict[str, Any], disabled: set[str], expected: bool
) -> None:
    assert is_due(announced("paid"), disabled, settings=with_sections(**sections)) is expected


def test_whether_an_event_of_another_source_is_due_nobody_can_say() -> None:
    with pytest.raises(PoisonError):
        is_due(replace(announced("paid"), source="/shop/test"), set(), settings=with_sections())
