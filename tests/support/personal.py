"""A customer who must not show up anywhere, and the search for her."""

import base64
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from support.events import order

NAME = "Zzyphora Quorbleton"
EMAIL = "zq.canary@quorble.example"
STREET = "77 Xylofrum Alley"
PHONE = "+49 555 0199 7733"
CARD = "4000 0012 3456 7899"
WORDS = ("zzyphora", "quorble", "zq.canary", "xylofrum", "0199 7733", "0012 3456", "4000001234567899")


def customers_order(**changes: Any) -> dict[str, Any]:
    """An order that is full of her."""
    return (
        order(
            customer={"name": NAME, "email": EMAIL},
            shipping_address={"name": NAME, "line1": STREET, "city": "Quorbleton", "country": "DE"},
            metadata={"card": CARD, "phone": PHONE, "note": f"ring for {NAME}"},
        )
        | changes
    )


@dataclass(frozen=True)
class Leak:
    where: str
    word: str
    around: str


def leaks(where: str, content: str | bytes) -> list[Leak]:
    """Every word of hers in a text, however it is written: as it is, percent-encoded, in base64 or in hexadecimal."""
    text = content.decode("latin-1") if isinstance(content, bytes) else content
    lower = text.lower()
    findings = [
        Leak(where, word, text[max(0, place - 60) : place + 60])
        for word in WORDS
        for spelling in {word, quote(word).lower()}
        if (place := lower.find(spelling)) >= 0
    ]
    for value in (NAME, EMAIL, STREET, PHONE, CARD):
        encoded = [each for each in in_base64(value) if each in text]
        encoded += [each for each in (value.encode().hex(), value.encode().hex(" ")) if each in lower]
        findings += [Leak(where, value, each) for each in encoded]
    return findings


def in_base64(text: str) -> list[str]:
    """What base64 makes of a text wherever it begins, without the characters that depend on its neighbours."""
    raw = text.encode()
    return [base64.b64encode(b"\0" * shift + raw).decode()[4:-4] for shift in range(3)]
