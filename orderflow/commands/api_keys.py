"""`python -m orderflow.commands.api_keys`: makes an API key and its entry for API_KEYS_FILE."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from orderflow.adapters.http.api_keys import new_key, toml
from orderflow.adapters.http.quotas import Quota
from orderflow.domain.authority import ROLES
from orderflow.domain.events import INBOX
from orderflow.version import add_option

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m orderflow.commands.api_keys",
        description="Makes an API key: its entry for API_KEYS_FILE goes to stdout, the key itself to stderr, once.",
    )
    parser.add_argument("name", help="the caller that gets the key")
    parser.add_argument("--stage", action="append", choices=("intake", "query"), help="default: both")
    parser.add_argument(
        "--source",
        action="append",
        help="pattern of the CloudEvent sources that the key may send, such as /shop/*",
    )
    parser.add_argument(
        "--kind",
        action="append",
        choices=tuple(INBOX),
        metavar="KIND",
        help="kind of event that the key may send, such as paid; default: every kind",
    )
    parser.add_argument(
        "--role",
        choices=tuple(ROLES),
        help="the kinds that such a client sends: "
        + "; ".join(f"{role}: {', '.join(kinds)}" for role, kinds in ROLES.items()),
    )
    parser.add_argument(
        "--owner", help="the owner in the rules' [authority] whose orders the key may send for"
    )
    parser.add_argument(
        "--act",
        action="store_true",
        help="query: the key may replay, edit, hold and so on; without it, only read",
    )
    limits = parser.add_argument_group("quotas at intake", "limits of the caller in each pod; default: none")
    limits.add_argument("--requests-per-second", type=float)
    limits.add_argument("--burst", type=int, help="requests at once; default: those of one second")
    limits.add_argument("--bytes-per-second", type=int, help="bytes of bodies")
    limits.add_argument("--in-flight", type=int, help="requests at the same time")
    add_option(parser)
    options = parser.parse_args(arguments)
    if any('"' in source or "\\" in source or not source.isprintable() for source in options.source or ()):
        parser.error("a source has no quotes, backslashes or control characters")
    kinds = dict.fromkeys([*ROLES.get(options.role, ()), *(options.kind or ())])
    try:
        quota = Quota(options.requests_per_second, options.burst, options.bytes_per_second, options.in_flight)
        key, entry = new_key(
            options.name,
            options.stage or ("intake", "query"),
            options.source,
            kinds=tuple(kinds) or None,
            owner=options.owner,
            act=options.act,
            quota=quota,
        )
    except ValueError:
        parser.error(
            "a name, and an owner's name, is 1 to 64 letters, digits, dots, _ or -;"
            " a limit is greater than zero, and --burst needs --requests-per-second"
        )
    sys.stdout.write(toml(entry))
    sys.stdout.flush()
    sys.stderr.write(f"\nThe key of {entry.name}; it is stored nowhere, so copy it now:\n{key}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
