"""Runs the collection with newman: `make postman`.

Without --environment it starts a sandbox of its own on free ports, with API keys, and stops it at the end. With one it
runs against what is there; the keys come from the variables INTAKE_KEY, BOUND_KEY, QUERY_KEY and READ_KEY, and the
addresses from INTAKE and QUERY where they differ from the file's. The environment is in a file that only this user may
read, not on newman's command line. JUnit's report is build/newman.xml. The exit code is newman's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.sandbox import Up  # noqa: E402 - the path is set only now

from orderflow.adapters.http.api_keys import new_key, toml  # noqa: E402 - the same

HERE: Final = Path(__file__).parent
COLLECTION: Final = HERE / "orderflow.postman_collection.json"
NEWMAN: Final = ROOT / "tests/node/node_modules/.bin/newman"
REPORT: Final = ROOT / "build/newman.xml"
FROM_OUTSIDE: Final = {
    "intake": "INTAKE",
    "query": "QUERY",
    "intakeKey": "INTAKE_KEY",
    "boundKey": "BOUND_KEY",
    "queryKey": "QUERY_KEY",
    "readKey": "READ_KEY",
}
"""The environment's names, and the variables that they may come from."""


def made_keys() -> tuple[dict[str, str], str]:
    """A key for each part that the collection plays, by its name in the environment; and the file that knows them."""
    made = {
        "intakeKey": new_key("postman", ["intake"]),
        "boundKey": new_key("bound", ["intake"], ["/payments/bound/*"]),
        "queryKey": new_key("operator", ["query"], act=True),
        "readKey": new_key("reader", ["query"]),
    }
    return {name: key for name, (key, _) in made.items()}, "".join(toml(entry) for _, entry in made.values())


def with_values(environment: Path, values: dict[str, str]) -> str:
    """Raises SystemExit where a value is missing: newman would send `{{intakeKey}}` as it is."""
    document = json.loads(environment.read_bytes())
    for each in document["values"]:
        each["value"] = values.get(each["key"]) or each["value"]
        if not each["value"]:
            raise SystemExit(
                f"{environment.name}: {each['key']} has no value; set {FROM_OUTSIDE[each['key']]}"
            )
    return json.dumps(document)


def run(environment: str, folder: Path) -> int:
    """newman's exit code for the collection under an environment."""
    environment_file = folder / "environment.json"
    environment_file.touch(mode=0o600)
    environment_file.write_text(environment)
    REPORT.parent.mkdir(exist_ok=True)
    command = [str(NEWMAN), "run", str(COLLECTION), "--environment", str(environment_file), "--color", "off"]
    command += ["--reporters", "cli,junit", "--reporter-junit-export", str(REPORT)]
    command += ["--reporter-cli-no-success-assertions", "--reporter-cli-no-banner"]
    return subprocess.run(command, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.postman", description=__doc__)
    parser.add_argument("--environment", type=Path, help="a Postman environment to run against")
    options = parser.parse_args()
    if not NEWMAN.exists():
        raise SystemExit("newman is not there: `make postman` installs it; it needs Node 20")
    # Removed by name, since a TemporaryDirectory fails on what the embedded PostgreSQL's user left there.
    folder = Path(tempfile.mkdtemp(prefix="orderflow-postman-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        environment: Path = options.environment or HERE / "sandbox.postman_environment.json"
        if options.environment:
            values = {name: os.environ.get(variable, "") for name, variable in FROM_OUTSIDE.items()}
        else:
            values, key_file = made_keys()
            keys = folder / "keys.toml"
            keys.touch(mode=0o600)
            keys.write_text(key_file)
            sandbox = stack.enter_context(Up(folder / "state", "--keys", str(keys)))
            values |= {"intake": sandbox.address.intake, "query": sandbox.address.query}
        return run(with_values(environment, values), folder)


if __name__ == "__main__":
    sys.exit(main())
