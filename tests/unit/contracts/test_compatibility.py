"""Two releases that share their topics: the command, on the project's own schemas, changed in one place."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orderflow.contracts import __main__ as command
from orderflow.contracts import compatibility
from orderflow.contracts.compatibility import BACKWARD, FORWARD, Break, breaks, load

SCHEMAS = Path(__file__).parents[3] / "contracts/schemas"
PLACED = "orders.inbox.v1/dev.orderflow.order.placed.v1"
ACCEPTED = "orders.events.v1/dev.orderflow.order.accepted.v1"
SHIPPED = "orders.status.v1/dev.orderflow.order.shipped.v1"


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    folder = tmp_path / "schemas"
    shutil.copytree(SCHEMAS, folder)
    return folder


def edit(folder: Path, side: str, event: str, definition: str) -> dict[str, Any]:
    """The definition; it is written back by save()."""
    schema: dict[str, Any] = json.loads((folder / side / f"{event}.json").read_bytes())
    return schema["$defs"][definition] | {"_": (folder / side / f"{event}.json", schema, definition)}


def save(definition: dict[str, Any]) -> None:
    file, schema, name = definition.pop("_")
    schema["$defs"][name] = definition
    file.write_text(json.dumps(schema))


def add(folder: Path, side: str, event: str, definition: str, name: str, *, required: bool = False) -> None:
    model = edit(folder, side, event, definition)
    model["properties"][name] = {"type": "string"}
    if required:
        model["required"].append(name)
    save(model)


def findings(all_breaks: list[Break]) -> list[tuple[str, str, str]]:
    return [(each.direction, each.event, str(each.finding)) for each in all_breaks]


def test_a_release_can_read_what_it_writes() -> None:
    now = load(SCHEMAS)
    assert breaks(now, now) == []


def test_a_required_field_breaks_what_is_still_in_the_topics(changed: Path) -> None:
    add(changed, "read", ACCEPTED, "Order", "channel", required=True)
    incompatible = findings(breaks(load(SCHEMAS), load(changed)))
    assert incompatible == [(FORWARD, ACCEPTED, "data.order.channel: this may be missing, but is required")]


def test_a_field_that_the_old_release_does_not_know_breaks_it_while_both_run(changed: Path) -> None:
    for side in ("read", "written"):
        add(changed, side, ACCEPTED, "Order", "gift")
    incompatible = findings(breaks(load(SCHEMAS), load(changed)))
    assert incompatible == [(BACKWARD, ACCEPTED, "data.order.gift: this member is unknown")]
    assert breaks(load(SCHEMAS), load(changed), readers_first=True) == []


def test_a_new_field_that_its_old_reader_passes_over_breaks_nothing(changed: Path) -> None:
    for side in ("read", "written"):
        add(changed, side, SHIPPED, "StatusChange", "warehouse", required=side == "written")
    assert breaks(load(SCHEMAS), load(changed)) == []


@pytest.mark.parametrize(
    ("event", "name"), [(PLACED, "takenby"), (ACCEPTED, "takenby"), (SHIPPED, "trackedby")]
)
def test_a_release_that_names_the_makers_of_events_shares_topics_with_one_that_does_not(
    changed: Path, event: str, name: str
) -> None:
    for side in ("read", "written"):
        file = changed / side / f"{event}.json"
        if file.exists():
            schema = json.loads(file.read_text())
            del schema["properties"][name]
            file.write_text(json.dumps(schema))
    assert breaks(load(changed), load(SCHEMAS)) == []
    assert breaks(load(SCHEMAS), load(changed)) == []


def test_a_stricter_rule_for_what_shops_send_breaks_shops(changed: Path) -> None:
    line = edit(changed, "read", PLACED, "Line")
    line["properties"]["quantity"]["maximum"] = 100
    save(line)
    incompatible = findings(breaks(load(SCHEMAS), load(changed)))
    assert incompatible == [(FORWARD, PLACED, "data.lines[].quantity: maximum is 100, here it is 1000000")]


def test_a_type_that_is_gone_breaks_what_is_still_in_the_topic(changed: Path) -> None:
    (changed / "read" / f"{SHIPPED}.json").unlink()
    (changed / "written" / f"{SHIPPED}.json").unlink()
    incompatible = findings(breaks(load(SCHEMAS), load(changed)))
    assert incompatible == [(FORWARD, SHIPPED, "the event: no event of this type is read from this topic")]


def test_the_command_names_each_break_and_fails(changed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compatibility.main([str(SCHEMAS), str(SCHEMAS)]) == 0
    assert "compatible both ways" in capsys.readouterr().out
    add(changed, "written", ACCEPTED, "Order", "gift")
    assert compatibility.main([str(SCHEMAS), str(changed)]) == 1
    out = capsys.readouterr().out
    assert f"new producer -> old consumer: {ACCEPTED}: data.order.gift: this member is unknown" in out
    # Nor can the new release read what it writes; that is for its own tests, and not between the two.
    assert compatibility.main([str(SCHEMAS), str(changed), "--readers-first"]) == 0
    assert "compatible from old to new" in capsys.readouterr().out


def test_folders_that_cannot_be_compared_are_no_success(
    changed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compatibility.main([str(tmp_path / "nothing"), str(SCHEMAS)]) == 2
    assert "no schemas under read/" in capsys.readouterr().err
    model = edit(changed, "read", ACCEPTED, "Order")
    model["if"] = {"required": ["tax"]}
    save(model)
    assert compatibility.main([str(SCHEMAS), str(changed)]) == 2
    assert f"{ACCEPTED}: this cannot be compared: data.order: if" in capsys.readouterr().err


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def test_the_schemas_are_held_against_the_last_release_or_any_revision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contracts = tmp_path / "contracts"
    shutil.copytree(SCHEMAS, contracts / "schemas")
    git(tmp_path, "init", "--initial-branch=main")
    git(tmp_path, "commit", "--allow-empty", "--message=before there were contracts")
    assert command.main(["compatibility", str(contracts)]) == 0
    assert "no release yet" in capsys.readouterr().out
    assert command.main(["compatibility", str(contracts), "--base=HEAD"]) == 2
    assert "HEAD: " in capsys.readouterr().err

    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message=the first release")
    git(tmp_path, "tag", "v1.0.0")
    add(contracts / "schemas", "read", ACCEPTED, "Order", "gift")
    add(contracts / "schemas", "written", ACCEPTED, "Order", "gift")
    assert command.main(["compatibility", str(contracts)]) == 1
    out = capsys.readouterr().out
    assert "compared with v1.0.0" in out
    assert "data.order.gift: this member is unknown" in out
    assert command.main(["compatibility", str(contracts), "--readers-first"]) == 0
    assert command.main(["compatibility", str(contracts), "--base=no-such-revision"]) == 2


def test_a_shallow_clone_that_sees_no_release_is_no_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(SCHEMAS, tmp_path / "here/contracts/schemas")
    git(tmp_path / "here", "init", "--initial-branch=main")
    git(tmp_path / "here", "add", ".")
    git(tmp_path / "here", "commit", "--message=the first release")
    git(tmp_path / "here", "tag", "v1.0.0")
    git(tmp_path / "here", "commit", "--allow-empty", "--message=after it")
    url = (tmp_path / "here").as_uri()
    git(tmp_path, "clone", "--depth=1", "--no-tags", url, str(tmp_path / "shallow"))
    contracts = tmp_path / "shallow/contracts"
    assert command.main(["compatibility", str(contracts)]) == 2
    assert "git fetch --unshallow --tags" in capsys.readouterr().err
    git(tmp_path / "shallow", "fetch", "--unshallow", "--tags")
    assert command.main(["compatibility", str(contracts)]) == 0
    assert "compared with v1.0.0" in capsys.readouterr().out
