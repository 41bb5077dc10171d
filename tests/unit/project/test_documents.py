"""The documents name only what exists: tests, files, settings. Links and anchors are checked by `make docs`."""

import itertools
import re
import subprocess
from pathlib import Path

import pytest

from orderflow.settings import StageSettings

ROOT = Path(__file__).parents[3]
FILES = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
).stdout.splitlines()
TEXT = {".md", ".py", ".yaml", ".properties", ".sql", ".toml", ""}
DOCUMENTS = [ROOT / file for file in FILES if file.endswith(".md") and (ROOT / file).exists()]
GUARANTEES = ROOT / "docs/reference/guarantees.md"
_NAMED = re.compile(r"`(?:([\w/]*test_\w+\.py)::)?(test_\w+)`")
_DEFINED = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")
_CELLS = re.compile(r"(?<!\\)\|")


def defined_tests() -> dict[str, set[str]]:
    """The names of the tests, by file."""
    tests: dict[str, set[str]] = {}
    for file in (ROOT / "tests").rglob("test_*.py"):
        tests[str(file.relative_to(ROOT / "tests"))] = set(_DEFINED.findall(file.read_text()))
    return tests


def named_tests(text: str) -> list[tuple[str, str]]:
    """(file, test) of every test that a document names. A test without a file is in the file of the test before it."""
    current_file = ""
    named = []
    for file, test in _NAMED.findall(text):
        current_file = file or current_file
        named.append((current_file, test))
    return named


def test_every_test_that_the_guarantees_name_is_there() -> None:
    defined = defined_tests()
    named = named_tests(GUARANTEES.read_text())
    assert len(named) > 40
    assert [f"{file}::{test}" for file, test in named if test not in defined.get(file, set())] == []


def of_a_document(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=of_a_document)
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


@pytest.mark.parametrize("document", DOCUMENTS, ids=of_a_document)
def test_every_link_to_a_file_leads_to_one(document: Path) -> None:
    linked = [each for each in _LINK.findall(document.read_text()) if "://" not in each]
    assert [each for each in linked if not (document.parent / each).exists()] == []


def test_every_document_is_a_page_of_the_site() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    pages = set(re.findall(r"[\w/.-]+\.md$", nav, re.MULTILINE))
    documents = {of_a_document(document) for document in DOCUMENTS if "changelog.d" not in document.parts}
    assert {
        path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}" for path in documents
    } == pages


def test_every_path_in_docs_that_a_file_names_is_there() -> None:
    missing = []
    for file in FILES:
        # The changelog says what was there at its time.
        if Path(file).suffix not in TEXT or file.startswith("CHANGELOG") or not (ROOT / file).is_file():
            continue
        named = re.findall(r"(?<![\w/.-])docs/[\w/-]+\.md", (ROOT / file).read_text())
        missing += [f"{file}: {path}" for path in named if not (ROOT / path).exists()]
    assert missing == []


def test_every_path_of_code_and_manifests_that_a_document_names_is_there() -> None:
    folders = {file.partition("/")[0] for file in FILES if "/" in file}
    paths = {*FILES, *(str(parent) for file in FILES for parent in Path(file).parents)}
    missing = []
    for document in DOCUMENTS:
        for path in re.findall(r"`([\w.-]+/[\w./*-]*)`", document.read_text()):
            # X and NNNN stand for any name; build/ is made.
            if path.partition("/")[0] in folders and not re.search(r"\bX\b|NNNN|^build/", path):
                named = path.rstrip("/")
                if named not in paths and not any(ROOT.glob(named)) and not any(document.parent.glob(named)):
                    missing.append(f"{of_a_document(document)}: {path}")
    assert missing == []


def test_every_decision_is_in_the_index() -> None:
    index = (ROOT / "docs/decisions.md").read_text()
    for file in sorted((ROOT / "docs/decisions").glob("*.md")):
        titles = re.findall(r"^## (.*)$", file.read_text(), re.MULTILINE)
        assert titles
        assert [title for title in titles if f"- [{title}](decisions/{file.name}#" not in index] == []


def settings_of(kind: type[StageSettings]) -> set[str]:
    return set(kind.model_fields).union(*(settings_of(each) for each in kind.__subclasses__()))


def test_the_reference_has_every_setting_and_no_other() -> None:
    text = (ROOT / "docs/reference/settings.md").read_text().partition("| variable of `kn order`")[0]
    described = set(re.findall(r"^\| `([A-Z_]+)`", text, re.MULTILINE))
    assert described == {name.upper() for name in settings_of(StageSettings)}
