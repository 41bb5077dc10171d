"""The version of this release. Its only source is pyproject.toml, or the metadata of the installed package."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

DISTRIBUTION: Final = "orderflow"


@cache
def version() -> str:
    """x.y.z. An image has no installed package but the same metadata, which image/assemble.py writes."""
    from importlib import metadata  # imported late: a stage does not need it to start

    return metadata.version(DISTRIBUTION)


def user_agent(product: str) -> str:
    """The User-Agent of requests to other servers."""
    return f"{product}/{version()}"


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action="version", version=f"%(prog)s {version()}")


def version_callback(command: str) -> Callable[[bool], None]:
    """The callback of an eager --version option: the same as add_option(), for typer."""

    def print_version(requested: bool) -> None:
        import typer  # the stages do not have it

        if requested:
            typer.echo(f"{command} {version()}")
            raise typer.Exit

    return print_version
