"""`kn order parked edit`: changes by path, a file, or an editor."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click
import typer

from orderflow.kn_order.client import OperatorError, WrongUsageError, path_of
from orderflow.kn_order.output import plain

if TYPE_CHECKING:
    from pathlib import Path

    from orderflow.kn_order.session import Session

Json = dict[str, Any]


def changes(sets: list[str], unsets: list[str]) -> Json:
    """PATH=VALUE as JSON where the value is JSON, else as text. Raises WrongUsageError naming the one that is not."""
    found: Json = {}
    for given in sets:
        path, equals, value = given.partition("=")
        if not equals or not path:
            raise WrongUsageError(f"--set {given}: this is not PATH=VALUE, such as data.total=2900")
        try:
            found[path] = json.loads(value)
        except ValueError:
            found[path] = value
    return found | dict.fromkeys(unsets)


def read(file: Path) -> Json:
    try:
        content = sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "this is no text file"
        raise WrongUsageError(f"--file {file}: {why}") from None
    return _parse(content, f"--file {file}")


def send(about: Session, letter: str, body: Json) -> Json:
    return about.client.post(path_of("parked", letter, "edit"), body)


def by_hand(about: Session, letter: str, said: Json) -> Json:
    """Opens an editor until what comes out of it is taken, or somebody gives up."""
    if not sys.stdin.isatty():
        raise WrongUsageError("nobody is here to edit; use --set PATH=VALUE or --file")
    found = about.client.get(path_of("parked", letter), reveal=1)
    if found["editable"] is None:
        raise OperatorError(found["not_editable"])
    before = json.dumps(found["editable"], indent=2, ensure_ascii=False) + "\n"
    text = before
    while True:
        text = _edited(text)
        if text == before:
            raise OperatorError("nothing was changed, and nothing sent")
        try:
            return send(about, letter, {"event": _parse(text, "what you wrote")} | said)
        except WrongUsageError as error:
            about.err.print(plain(str(error)), style="red", soft_wrap=True)
            if not typer.confirm("Edit it again?", default=True, err=True):
                raise OperatorError("nothing was sent") from None


def _edited(text: str) -> str:
    try:
        found = click.edit(text, extension=".json", require_save=False)
    except click.ClickException as error:
        raise OperatorError(f"{error.message}; name another in EDITOR, or use --set") from None
    return text if found is None else found


def _parse(text: str, what: str) -> Json:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise WrongUsageError(f"{what} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise WrongUsageError(f"{what} is no JSON object with type, source, id, subject, time and data")
    return found
