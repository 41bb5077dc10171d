"""Which release this is. pyproject.toml says so, and what was installed from it; nothing else does."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

DISTRIBUTION: Final = "orderflow"


@cache
def version() -> str:
    """x.y.z. An image has no package installed, but the note that says which it would be (image/assemble.py)."""
    from importlib import metadata  # no stage that starts from zero waits for it

    return metadata.version(DISTRIBUTION)


def user_agent(product: str) -> str:
    """What we call ourselves in requests to others."""
    return f"{product}/{version()}"


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action="version", version=f"%(prog)s {version()}")


def saying(command: str) -> Callable[[bool], None]:
    """The same for typer: what an eager --version calls back."""

    def say(asked: bool) -> None:
        import typer  # no stage has it

        if asked:
            typer.echo(f"{command} {version()}")
            raise typer.Exit

    return say
