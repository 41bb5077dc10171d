"""Webhooks: what a response means, which addresses are refused, what is signed and what is sent."""

import json
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
from standardwebhooks import Webhook as Signer
from support.statuses import announced, notification

from orderflow.errors import BadSettingsError
from orderflow.notify.model import DeliveryResult
from orderflow.notify.settings import Webhook
from orderflow.notify.webhooks import (
    RefusedAddressError,
    WebhookChannel,
    body,
    delivery_from_status,
    is_public,
    public_socket,
    signature_headers,
)

OLD, NEW = "whsec_b2xkIG9sZCBvbGQgb2xk", "whsec_bmV3IG5ldyBuZXcgbmV3"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "169.254.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.170",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ],
)
def test_an_address_inside_somebodys_network_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::808:808", "2606:4700:4700::1111"])
def test_a_public_address_is_not_refused(address: str) -> None:
    assert is_public(address)


def test_no_socket_is_made_for_an_address_that_is_refused() -> None:
    stream = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
    with pytest.raises(RefusedAddressError):
        public_socket((socket.AF_INET6, *stream, ("fe80::1%eth0", 443, 0, 2)))
    with public_socket((socket.AF_INET, *stream, ("8.8.8.8", 443))) as made:
        assert made.family is socket.AF_INET


@pytest.mark.parametrize(
    ("status", "result", "code"),
    [
        (200, DeliveryResult.SENT, ""),
        (204, DeliveryResult.SENT, ""),
        (299, DeliveryResult.SENT, ""),
        (301, DeliveryResult.REFUSED, "http_301"),
        (307, DeliveryResult.REFUSED, "http_307"),
        (400, DeliveryResult.REFUSED, "http_400"),
        (401, DeliveryResult.REFUSED, "http_401"),
        (404, DeliveryResult.REFUSED, "http_404"),
        (408, DeliveryResult.NOT_NOW, "http_408"),
        (409, DeliveryResult.NOT_NOW, "http_409"),
        (410, DeliveryResult.GONE, "endpoint_gone"),
        (422, DeliveryResult.REFUSED, "http_422"),
        (425, DeliveryResult.NOT_NOW, "http_425"),
        (429, DeliveryResult.NOT_NOW, "http_429"),
        (500, DeliveryResult.NOT_NOW, "http_500"),
        (503, DeliveryResult.NOT_NOW, "http_503"),
        (599, DeliveryResult.NOT_NOW, "http_599"),
    ],
)
def test_an_answers_status_says_what_becomes_of_the_webhook(
    status: int, result: DeliveryResult, code: str
) -> None:
    delivery = delivery_from_status(status)
    assert (delivery.result, delivery.code) == (result, code)


def test_every_secret_signs_and_each_is_enough_to_verify() -> None:
    content = body(notification(announced("paid", detail={"reference": "é€"}), "webhook", "erp"))
    headers = signature_headers([Signer(OLD), Signer(NEW)], "m-1", content, datetime.now(UTC))
    for secret in (OLD, NEW):
        assert Signer(secret).verify(content, headers) == json.loads(content)


def test_a_webhook_tells_amounts_and_status_but_nothing_about_the_customer() -> None:
    event = announced("refunded", "A-1", {"amount": 1000, "currency": "EUR"})
    content = body(notification(event, "webhook", "erp"))
    assert json.loads(content) == {
        "type": "dev.orderflow.order.refunded.v1",
        "timestamp": "2026-11-23T10:00:00Z",
        "data": {
            "order_id": "A-1",
            "kind": "refunded",
            "version": 1,
            "status": "delivered",
            "payment": "paid",
            "currency": "EUR",
            "total": 2900,
            "captured": 2900,
            "refunded": 1000,
            "detail": {"amount": 1000, "currency": "EUR"},
        },
    }
    for personal in (b"Ada", b"ada@", b"Analytical", b"Berlin"):
        assert personal not in content


@pytest.mark.parametrize("content", [None, "", "sesame", "whsec_", "whsec_a", f"{OLD}\nsesame"])
def test_a_secret_that_cannot_be_used_is_named_at_the_start_and_not_shown(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "secret").write_text(content)
    endpoint = Webhook.model_validate({"name": "erp", "url": "https://x.example", "secret_file": "secret"})
    with pytest.raises(BadSettingsError, match=r"webhooks\.erp\.secret_file") as caught:
        WebhookChannel([endpoint], tmp_path)
    assert "sesame" not in str(caught.value)
