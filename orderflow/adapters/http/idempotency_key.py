"""The header Idempotency-Key: one value per request, the same in each repetition of the request."""

from __future__ import annotations

import re
from typing import Final

from orderflow.errors import PoisonError, Reason

MAX_LENGTH: Final = 255
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\["\\])+)"')
"""A string of structured fields (RFC 8941, section 3.3.3), which the draft of the header demands."""
_ESCAPED: Final = re.compile(r"\\(.)")


def read(value: str, text: str) -> str:
    """The key in the header's value. `"k"` and `k` are the same key.

    Raises PoisonError, with this text, for a value that has more than 255 characters or others than printable ASCII.
    """
    if len(value) > MAX_LENGTH or not value.isascii() or not value.isprintable():
        raise PoisonError(Reason("idempotency_key_invalid", "Idempotency-Key", text))
    quoted = _QUOTED.fullmatch(value)
    return _ESCAPED.sub(r"\1", quoted[1]) if quoted else value
