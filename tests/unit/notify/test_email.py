"""The mails: both bodies of every kind, and nothing that a customer wrote becomes a header or markup."""

from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.statuses import announced, notification

from orderflow.errors import BadSettingsError
from orderflow.notify.email import TEMPLATES, EmailChannel, MailRenderer, envelope_address, one_line
from orderflow.notify.model import CustomerKind
from orderflow.notify.settings import Email, Shop

SHOP = Shop.model_validate({"name": "Büro & Co", "url": "https://shop.example"})
RENDERER = MailRenderer(SHOP, "Büro <orders@shop.example>")
DETAILS: dict[str, dict[str, Any]] = {
    "rejected": {"reasons": [{"code": "c", "field": "f", "text": "the shop does not ship <there>"}]},
    "shipped": {"carrier": "Post <b>", "tracking": "T-1"},
    "refunded": {"amount": 1000, "currency": "EUR"},
}
HEADERS = {
    "MIME-Version",
    "Content-Type",
    "Subject",
    "From",
    "To",
    "Date",
    "Message-ID",
    "References",
    "Auto-Submitted",
}


def mail(kind: str, recipient: str = "ada@example.org", **changes: Any) -> EmailMessage:
    event = announced(kind, detail=DETAILS.get(kind, {}), **changes)
    return parsed(RENDERER.render(notification(event, "email", recipient)))


def parsed(content: bytes) -> EmailMessage:
    assert content.isascii()
    message = message_from_bytes(content, policy=default)
    assert isinstance(message, EmailMessage)
    return message


def body(message: EmailMessage, subtype: str) -> str:
    part = message.get_body((subtype,))
    assert part is not None
    text: str = part.get_content()
    return text


@pytest.mark.parametrize("kind", get_args(CustomerKind))
def test_every_kind_has_a_subject_a_text_and_a_page_that_name_the_order(kind: str) -> None:
    event = announced(kind, "A-1", DETAILS.get(kind, {}))
    message = parsed(RENDERER.render(notification(event, "email", "ada@example.org")))
    assert set(message.keys()) == HEADERS
    assert "A-1" in message["Subject"]
    assert message["To"] == "ada@example.org"
    assert message["From"] == "Büro <orders@shop.example>"
    for subtype in ("plain", "html"):
        assert "A-1" in body(message, subtype)
        assert "29.00 EUR" in body(message, subtype)
        assert "Ada Lovelace" in body(message, subtype)


def test_there_is_a_pair_of_templates_for_every_kind_and_no_other() -> None:
    pairs = {file.stem for file in TEMPLATES.iterdir()}
    assert pairs == {"base", *get_args(CustomerKind)}
    assert len(list(TEMPLATES.iterdir())) == 2 * len(pairs)


def test_details_are_told_as_text_and_escaped_as_markup() -> None:
    rejected, shipped = mail("rejected"), mail("shipped")
    assert "- the shop does not ship <there>" in body(rejected, "plain")
    assert "<li>the shop does not ship &lt;there&gt;</li>" in body(rejected, "html")
    assert "Tracking number: T-1" in body(shipped, "plain")
    assert "Carrier: Post &lt;b&gt;" in body(shipped, "html")
    assert "10.00 EUR" in body(mail("refunded"), "plain")


def test_details_that_are_left_out_are_left_out() -> None:
    message = parsed(RENDERER.render(notification(announced("shipped"), "email", "ada@example.org")))
    assert "Carrier" not in body(message, "plain") + body(message, "html")


def test_why_the_shop_hesitates_is_not_told_to_the_customer() -> None:
    for kind in ("held", "cancelled", "declined", "returned"):
        event = announced(kind, detail={"reason": "suspected fraud", "by": "operator"})
        message = parsed(RENDERER.render(notification(event, "email", "ada@example.org")))
        assert "fraud" not in body(message, "plain") + body(message, "html")


def test_what_a_customer_wrote_stays_text() -> None:
    script = "<script>alert(1)</script>{{ shop }}"
    lines = [{"sku": "X", "name": script, "quantity": 1, "unit_price": 2900}]
    message = mail("accepted", customer={"name": script, "email": "ada@example.org"}, lines=lines, shipping=0)
    assert "<script>" not in body(message, "html")
    assert "{{ shop }}" in body(message, "html")
    assert body(message, "plain").count(script) == 2


def test_the_message_id_is_the_same_for_the_same_event_and_recipient_only() -> None:
    event = announced("accepted")
    ids = [
        parsed(RENDERER.render(notification(each, "email", recipient)))["Message-ID"]
        for each, recipient in (
            (event, "a@x.org"),
            (event, "a@x.org"),
            (event, "b@x.org"),
            (announced("paid"), "a@x.org"),
        )
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert ids[0].endswith("@shop.example>")


@pytest.mark.parametrize(
    "nasty",
    [
        "a@x.org\r\nBcc: victim@x.org",
        "a@x.org\nBcc: victim@x.org",
        "a@x.org\rBcc: victim@x.org",
        "a@x.org\x0bBcc: victim@x.org",
        "a@x.org\x85Bcc: victim@x.org",
        "a@x.org\u2028Bcc: victim@x.org",
        "a@x.org\r\n\r\nanother body",
        "a@x.org\0",
    ],
)
def test_no_recipient_adds_a_header_or_a_body(nasty: str) -> None:
    message = mail("accepted", nasty)
    assert set(message.keys()) == HEADERS
    assert "another body" not in body(message, "plain")


@given(st.text())
def test_a_headers_text_is_one_printable_line(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert not any(ord(character) < 32 or ord(character) == 127 for character in line)
    assert one_line(line) == line


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("ada@example.org", ("ada@example.org", [])),
        ("ada@bücher.example", ("ada@xn--bcher-kva.example", [])),
        ("zoë@bücher.example", ("zoë@xn--bcher-kva.example", ["SMTPUTF8"])),
    ],
)
def test_an_address_beyond_ascii_asks_only_for_what_it_needs(
    address: str, expected: tuple[str, list[str]]
) -> None:
    assert envelope_address(address) == expected


def test_a_password_file_that_cannot_be_read_is_named_at_the_start(tmp_path: Path) -> None:
    settings = {"from": "a@x.org", "smtp_url": "smtps://x.org", "user": "u", "password_file": "missing"}
    with pytest.raises(BadSettingsError, match=r"email\.password_file"):
        EmailChannel(SHOP, Email.model_validate(settings), tmp_path)
