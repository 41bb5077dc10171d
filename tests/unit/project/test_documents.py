"""The documents say what is there: tests that exist, links that lead somewhere, tables that are tables."""

import itertools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GUARANTEES = ROOT / "docs/guarantees.md"
_NAMED = re.compile(r"`(?:(test_\w+\.py)::)?(test_\w+)`")
_DEFINED = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")
_CELLS = re.compile(r"(?<!\\)\|")


def defined_tests() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for file in (ROOT / "tests").rglob("test_*.py"):
        found.setdefault(file.name, set()).update(_DEFINED.findall(file.read_text()))
    return found


def named_tests(text: str) -> list[tuple[str, str]]:
    """(file, test) of every test that a document names; one without a file is in the file of the one before it."""
    file = ""
    named = []
    for given, test in _NAMED.findall(text):
        file = given or file
        named.append((file, test))
    return named


def test_every_test_that_the_guarantees_name_is_there() -> None:
    defined = defined_tests()
    named = named_tests(GUARANTEES.read_text())
    assert len(named) > 40
    assert [f"{file}::{test}" for file, test in named if test not in defined.get(file, set())] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_table_has_a_head_and_rows_of_its_width(document: Path) -> None:
    lines = enumerate(document.read_text().splitlines(), 1)
    for is_table, group in itertools.groupby(lines, lambda line: line[1].startswith("|")):
        if not is_table:
            continue
        (first, head), *rows = group
        assert rows, f"line {first}: a table without rows"
        assert set(rows[0][1]) <= set("|-: "), f"line {first}: a table without a head"
        width = len(_CELLS.findall(head))
        assert [number for number, row in rows if len(_CELLS.findall(row)) != width] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_to_one(document: Path) -> None:
    linked = [each for each in _LINK.findall(document.read_text()) if "://" not in each]
    assert [each for each in linked if not (document.parent / each).exists()] == []
