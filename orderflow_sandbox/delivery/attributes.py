"""The attributes of a CloudEvent, set one after the other as the CloudEvents SDK for Java sets them. Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from orderflow.messaging.kafka_source import is_uri_reference, normalised_time
from orderflow_sandbox.delivery.events import EXTENSION

_REQUIRED: Final = ("id", "source", "type")
_URIS: Final = {"0.3": frozenset({"source", "schemaurl"}), "1.0": frozenset({"source", "dataschema"})}
_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]?")


class NoCloudEventError(Exception):
    """The record does not follow the Kafka binding of CloudEvents."""


class Attributes:
    """`values` has them by name, in the form in which they are sent."""

    __slots__ = ("_uris", "_version", "values")

    def __init__(self, version: str) -> None:
        """Raises NoCloudEventError where the SDK does not know the version."""
        if version not in _URIS:
            raise NoCloudEventError
        self._version = version
        self._uris = _URIS[version]
        self.values: dict[str, str] = {"specversion": version}

    def put(self, name: str, text: str) -> None:
        """Replaces what the name had. Raises NoCloudEventError where the name or the value is not legal."""
        if name == "time":
            time = normalised_time(text)
            if time is None:
                raise NoCloudEventError
            text = time
        elif name in self._uris:
            if not _is_uri_reference(text):
                raise NoCloudEventError
        elif name == "datacontentencoding" and self._version == "0.3":
            # The SDK knows this attribute, and sends it on to nobody.
            return
        elif not _is_name(name):
            raise NoCloudEventError
        self.values[name] = text

    def check_required(self) -> None:
        """Raises NoCloudEventError where one is missing. An empty value is a value."""
        if any(name not in self.values for name in _REQUIRED):
            raise NoCloudEventError


def decoded(value: bytes) -> str:
    """The text of a header's value or a key as Java decodes UTF-8: each malformed part becomes one U+FFFD."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _SURROGATE.sub(b"\xff", value).decode("utf-8", "replace")


@lru_cache(maxsize=4096)
def _is_name(name: str) -> bool:
    """The SDK checks each character of a name, so that it takes the empty name."""
    return not name or EXTENSION.fullmatch(name) is not None


@lru_cache(maxsize=4096)
def _is_uri_reference(text: str) -> bool:
    return is_uri_reference(text)
