"""A CloudEvent in structured mode, as the CloudEvents SDK for Java and Jackson read it. Pure.

Python nests JSON less deeply: what has more than about 900 levels is wrapped, while Jackson takes 1,000.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Final

from orderflow_sandbox.delivery.attributes import Attributes, NoCloudEventError
from orderflow_sandbox.delivery.events import Event

_JSON_CONTENT: Final = re.compile(r"(application|text)/([a-zA-Z]+\+)?json(;.*)?")
_OPTIONAL: Final = {
    "0.3": ("datacontenttype", "schemaurl", "subject", "time"),
    "1.0": ("datacontenttype", "dataschema", "subject", "time"),
}
_INTEGERS: Final = range(-(2**31), 2**31)
_MAX_DIGITS: Final = 1000
_DIGITS = re.compile(r"\d")
_GAPS = re.compile(r"[\x00-\x20]+")
_BASE64 = re.compile(
    r"(?:[\x00-\x20]*[A-Za-z0-9+/]{2}(?:[A-Za-z0-9+/]{2}|[A-Za-z0-9+/]=|==))*[\x00-\x20]*",
)
_BEHIND_PADDING = re.compile(r"(?<==)(?=[^=])")
_WHITESPACE: Final = " \t\n\r"


def structured(value: bytes | None) -> Event:
    """Raises NoCloudEventError where the SDK builds no event of the value."""
    node = _read(value or b"")
    attributes = Attributes(_text(node, "specversion") or "")
    version = attributes.values["specversion"]
    for name in ("id", "source", "type"):
        text = _text(node, name)
        if text is None:
            raise NoCloudEventError
        attributes.put(name, text)
    for name in _OPTIONAL[version]:
        text = _text(node, name)
        if text is not None:
            attributes.put(name, text)
    if "data" in node:
        attributes.values.setdefault("datacontenttype", "application/json")
    encoding = _text(node, "datacontentencoding") if version == "0.3" else None
    data = _data(node, attributes, is_base64=encoding == "base64")
    for name, content in node.items():
        attributes.put(name, _extension(content))
    return Event(attributes.values, data)


def _read(value: bytes) -> dict[str, Any]:
    """The first JSON document of the value. What is behind it is not read."""
    encoding = json.detect_encoding(value)
    try:
        text = value.decode(encoding, "surrogatepass")
    except UnicodeDecodeError as error:
        text = value[: error.start].decode(encoding, "surrogatepass")
    try:
        node, _ = _DECODER.raw_decode(text.lstrip(_WHITESPACE))
    except (ValueError, RecursionError) as error:
        raise NoCloudEventError from error
    if not isinstance(node, dict):
        raise NoCloudEventError
    return node


def _text(node: dict[str, Any], name: str) -> str | None:
    """Removes an attribute from the node. None where it is null or missing."""
    content = node.pop(name, None)
    if content is None or isinstance(content, str):
        return content
    raise NoCloudEventError


def _extension(content: object) -> str:
    """Text, an integer of 32 bits, or the JSON of anything else but a number."""
    if isinstance(content, str):
        return content
    if isinstance(content, int | float) and not isinstance(content, bool):
        if isinstance(content, float) or content not in _INTEGERS:
            raise NoCloudEventError
        return str(content)
    return _json(content)


def _data(node: dict[str, Any], attributes: Attributes, *, is_base64: bool) -> bytes | None:
    """Removes the data from the node. Both forms at once are legal in version 0.3 only, where data_base64 counts."""
    data = _plain_data(node, attributes.values.get("datacontenttype"), is_base64=is_base64)
    if "data_base64" not in node:
        return data
    if data is not None and attributes.values["specversion"] != "0.3":
        raise NoCloudEventError
    return _from_base64(node.pop("data_base64"))


def _plain_data(node: dict[str, Any], content_type: str | None, *, is_base64: bool) -> bytes | None:
    """JSON is written compactly, as the SDK does."""
    if "data" not in node:
        return None
    data = node.pop("data")
    if is_base64:
        return _from_base64(data)
    if content_type is not None and _JSON_CONTENT.fullmatch(content_type):
        try:
            return _json(data).encode("utf-8", "replace")
        except RecursionError as error:
            raise NoCloudEventError from error
    if not isinstance(data, str):
        raise NoCloudEventError
    return data.encode("utf-8", "replace")


def _from_base64(encoded: object) -> bytes:
    """Between groups of four characters Jackson skips spaces and line breaks, and goes on behind a padded group."""
    if not isinstance(encoded, str) or not _BASE64.fullmatch(encoded):
        raise NoCloudEventError
    parts = _BEHIND_PADDING.split(_GAPS.sub("", encoded))
    return b"".join(base64.b64decode(part) for part in parts)


_ESCAPED: Final = re.compile(r'["\\\x00-\x1f]')
_SHORT_ESCAPES: Final = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\f": "\\f",
    "\r": "\\r",
}


def _json(content: object) -> str:
    """JSON as Jackson writes it."""
    if isinstance(content, str):
        return f'"{_ESCAPED.sub(_escape, content)}"'
    if isinstance(content, float):
        return _number(content)
    if isinstance(content, dict):
        parts = []
        for name, member in content.items():
            parts.append(f'"{_ESCAPED.sub(_escape, name)}":')
            parts.append(_json(member))
            parts.append(",")
        return "{" + "".join(parts[:-1]) + "}"
    if isinstance(content, list):
        parts = []
        for member in content:
            parts.append(_json(member))
        return "[" + ",".join(parts) + "]"
    return json.dumps(content)


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    return _SHORT_ESCAPES.get(char) or f"\\u{ord(char):04X}"


def _number(value: float) -> str:
    """Double.toString of Java 19 and later: an exponent below 0.001 and from 10,000,000 on."""
    text = repr(value)
    if text.endswith("inf"):
        return '"-Infinity"' if value < 0 else '"Infinity"'
    if value == 0 or 1e-3 <= abs(value) < 1e7:  # noqa: PLR2004 - the limits of the docstring
        return text
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = text.removeprefix("-").partition("e")
    if len(mantissa) == 1:
        # Java has two digits at least. They differ from d.0 only next to zero (4.9E-324).
        mantissa, _, exponent = f"{abs(value):.1e}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) - 1 if whole != "0" else len(digits) - len(fraction) - 1
    digits = digits.rstrip("0")
    return f"{sign}{digits[0]}.{digits[1:] or '0'}E{point + int(exponent or 0)}"


def _limited_int(text: str) -> int:
    if len(text.removeprefix("-")) > _MAX_DIGITS:
        raise ValueError(text)
    return int(text)


def _limited_float(text: str) -> float:
    if len(_DIGITS.findall(text)) > _MAX_DIGITS:
        raise ValueError(text)
    return float(text)


def _reject(constant: str) -> object:
    raise ValueError(constant)


_DECODER: Final = json.JSONDecoder(parse_int=_limited_int, parse_float=_limited_float, parse_constant=_reject)
