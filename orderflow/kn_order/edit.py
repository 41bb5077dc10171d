"""`kn order parked edit`: by path, from a file, or in an editor."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click
import typer

from orderflow.kn_order.client import path_of
from orderflow.kn_order.errors import OperatorError, WrongUsageError
from orderflow.kn_order.output import plain

if TYPE_CHECKING:
    from pathlib import Path

    from orderflow.kn_order.session import Session

Json = dict[str, Any]


def parse_changes(sets: list[str], unsets: list[str]) -> Json:
    """New values by path; None removes the path. A VALUE that is not JSON is a text. Raises WrongUsageError."""
    changes: Json = {}
    for option in sets:
        path, equals, value = option.partition("=")
        if not equals or not path:
            raise WrongUsageError(f"--set {option}: this is not PATH=VALUE, such as data.total=2900")
        try:
            changes[path] = json.loads(value)
        except ValueError:
            changes[path] = value
    return changes | dict.fromkeys(unsets)


def read_file(file: Path) -> Json:
    try:
        content = sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "this is not a text file"
        raise WrongUsageError(f"--file {file}: {why}") from None
    return _parse_event(content, f"--file {file}")


def send(session: Session, parked_id: str, body: Json) -> Json:
    return session.client.post(path_of("parked", parked_id, "edit"), body)


def send_from_editor(session: Session, parked_id: str, body: Json) -> Json:
    """Opens the editor again and again until query accepts the event or the operator gives up.

    body: the other members of the request.
    """
    if not sys.stdin.isatty():
        raise WrongUsageError("there is no terminal for an editor; use --set PATH=VALUE or --file")
    parked = session.client.get(path_of("parked", parked_id), reveal=1)
    if parked["editable"] is None:
        raise OperatorError(parked["not_editable"])
    original = json.dumps(parked["editable"], indent=2, ensure_ascii=False) + "\n"
    text = original
    while True:
        text = _edited(text)
        if text == original:
            raise OperatorError("nothing was changed, and nothing was sent")
        try:
            return send(session, parked_id, {"event": _parse_event(text, "the edited text")} | body)
        except WrongUsageError as error:
            session.err.print(plain(str(error)), style="red", soft_wrap=True)
            if not typer.confirm("Edit it again?", default=True, err=True):
                raise OperatorError("nothing was sent") from None


def _edited(text: str) -> str:
    try:
        edited = click.edit(text, extension=".json", require_save=False)
    except click.ClickException as error:
        raise OperatorError(f"{error.message}; name another editor in EDITOR, or use --set") from None
    return text if edited is None else edited


def _parse_event(text: str, origin: str) -> Json:
    try:
        event = json.loads(text)
    except ValueError as error:
        raise WrongUsageError(f"{origin} is not JSON: {error}") from None
    if not isinstance(event, dict):
        raise WrongUsageError(f"{origin} is not a JSON object with type, source, id, subject, time and data")
    return event
