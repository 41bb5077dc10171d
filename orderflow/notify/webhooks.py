"""Signed webhooks, as Standard Webhooks 1.0.0 defines them (standardwebhooks.com).

Webhooks go to public addresses only, unless an endpoint's allow_private says otherwise.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from aiohttp import (
    ClientConnectionError,
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    TCPConnector,
)
from standardwebhooks import Webhook as Signer
from standardwebhooks.webhooks import EmptyWebhookSecretError

from orderflow.errors import BadSettingsError
from orderflow.messaging.cloudevent import derived_id
from orderflow.notify.model import Delivery, DeliveryResult
from orderflow.version import user_agent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aiohttp import AddrInfoType

    from orderflow.notify.model import Handover, Notification
    from orderflow.notify.settings import Webhook

KEEP_SECONDS: Final = 2.0
"""How long an idle connection is reused: less than servers do. Where a server closes a connection during a request,
nobody knows whether it accepted the webhook."""
_RETRIED: Final = frozenset({408, 409, 425, 429})
_GONE: Final = 410
_UNICAST: Final = ipaddress.ip_network("2000::/3")
_SIX_TO_FOUR: Final = ipaddress.ip_network("2002::/16")
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
# Azure's metadata service. Those of the other clouds have no public address.
_METADATA: Final = frozenset({ipaddress.ip_address("168.63.129.16")})


class RefusedAddressError(OSError):
    """The address is not a public one."""


@dataclass(frozen=True, slots=True)
class _Endpoint:
    settings: Webhook
    signers: tuple[Signer, ...]
    timeout: ClientTimeout


class WebhookChannel:
    """Raises BadSettingsError where a secret cannot be used."""

    def __init__(self, endpoints: Sequence[Webhook], folder: Path) -> None:
        self._endpoints = {each.name: _endpoint(each, folder) for each in endpoints}
        self._sessions: dict[bool, ClientSession] = {}

    async def send(self, notification: Notification, handover: Handover) -> Delivery:
        endpoint = self._endpoints[notification.recipient]
        content = body(notification)
        message_id = derived_id("webhook", notification.event.id, notification.recipient)
        try:
            status = await handover.once(lambda: self._post(endpoint, message_id, content))
            return delivery_from_status(status)
        except ClientSSLError:
            return Delivery(DeliveryResult.NOT_NOW, "tls_failed")
        except ClientConnectorError as error:
            if isinstance(error.os_error, RefusedAddressError):
                return Delivery(DeliveryResult.REFUSED, "address_refused")
            return Delivery(DeliveryResult.NOT_NOW, "connect_failed")
        except ConnectionTimeoutError:
            return Delivery(DeliveryResult.NOT_NOW, "connect_timeout")
        except TimeoutError:
            return Delivery(DeliveryResult.UNKNOWN, "http_timeout")
        except ClientConnectionError:
            return Delivery(DeliveryResult.UNKNOWN, "http_disconnected")
        except ClientError:
            return Delivery(DeliveryResult.UNKNOWN, "http_invalid")

    async def _post(self, endpoint: _Endpoint, message_id: str, content: bytes) -> int:
        session = self._session(allow_private=endpoint.settings.allow_private)
        async with session.post(
            str(endpoint.settings.url),
            data=content,
            headers=signature_headers(endpoint.signers, message_id, content, datetime.now(UTC)),
            timeout=endpoint.timeout,
            allow_redirects=False,
        ) as response:
            # The response's body is not read. Leaving the block closes the connection where the body is unfinished.
            return response.status

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    def _session(self, *, allow_private: bool) -> ClientSession:
        if allow_private not in self._sessions:
            self._sessions[allow_private] = ClientSession(
                connector=TCPConnector(
                    keepalive_timeout=KEEP_SECONDS, socket_factory=None if allow_private else public_socket
                ),
                cookie_jar=DummyCookieJar(),
                auto_decompress=False,
                headers={"User-Agent": user_agent("orderflow"), "Content-Type": "application/json"},
            )
        return self._sessions[allow_private]


def body(notification: Notification) -> bytes:
    """The status change as JSON, without the order: no customer, no addresses, no lines. Amounts are minor units."""
    change = notification.change
    document = {
        "type": notification.event.type,
        "timestamp": notification.event.time,
        "data": change.model_dump(mode="json", exclude={"order"}),
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def signature_headers(
    signers: Sequence[Signer], message_id: str, content: bytes, now: datetime
) -> dict[str, str]:
    text = content.decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signer.sign(message_id, now, text) for signer in signers),
    }


def delivery_from_status(status: int) -> Delivery:
    """A redirect is not followed and counts as refused: the shop has to give the address itself."""
    code = f"http_{status}"
    if 200 <= status < 300:  # noqa: PLR2004 - HTTP's own classes
        return Delivery(DeliveryResult.SENT)
    if status == _GONE:
        return Delivery(DeliveryResult.GONE, "endpoint_gone")
    if status in _RETRIED or status >= 500:  # noqa: PLR2004
        return Delivery(DeliveryResult.NOT_NOW, code)
    return Delivery(DeliveryResult.REFUSED, code)


def public_socket(address: AddrInfoType) -> socket.socket:
    """Creates the socket for one resolved address, just before the connection is made. The check is made here, so that
    a host name cannot resolve to another address after the check.

    Raises RefusedAddressError for an address that is not public.
    """
    family, kind, protocol, _, socket_address = address
    if not is_public(str(socket_address[0]).partition("%")[0]):
        raise RefusedAddressError("not a public address")
    return socket.socket(family, kind, protocol)


def is_public(text: str) -> bool:
    """Whether an IP address is global unicast and, where it stands for an IPv4 address, whether that address is too.

    Of IPv6, 2000::/3 without 6to4 (RFC 4291, RFC 3056) is accepted, and NAT64's well-known prefix (RFC 6052).
    `is_global` alone accepts multicast and several obsolete forms of an IPv4 address.
    """
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None and address not in _NAT64:
            return address.is_global and address in _UNICAST and address not in _SIX_TO_FOUR
        address = ipaddress.IPv4Address(address.packed[-4:])
    return address.is_global and not address.is_multicast and address not in _METADATA


def _endpoint(settings: Webhook, folder: Path) -> _Endpoint:
    try:
        lines = (folder / settings.secret_file).read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(settings, f"cannot read it: {type(error).__name__}") from None
    if not lines or not all(line.startswith("whsec_") for line in lines):
        raise _bad(settings, "each line must be whsec_...")
    signers = []
    with suppress(ValueError, EmptyWebhookSecretError):
        signers = [Signer(line) for line in lines]
    if not signers:
        raise _bad(settings, "a secret must be whsec_ followed by base64")
    seconds = settings.timeout_seconds
    # Connecting gets half of the time, so that an unreachable address differs from a slow response.
    return _Endpoint(settings, tuple(signers), ClientTimeout(total=seconds, sock_connect=seconds / 2))


def _bad(settings: Webhook, fault: str) -> BadSettingsError:
    return BadSettingsError(f"NOTIFICATIONS_FILE: webhooks.{settings.name}.secret_file: {fault}")
