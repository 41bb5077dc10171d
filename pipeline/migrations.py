"""Can the release before run on what each migration leaves, and do its writers go on meanwhile? `make migrations`.

For a while both releases work on one database, and the new one may be taken back: so a migration adds and takes nothing
away, refuses nothing that the old code writes, and holds no lock for as long as a table is large. squawk knows most of
that; what it does not know is below. What a release needs no more goes with a later one, once the code that used it is
gone, and says so above its statement:

    -- allowed ban-drop-column: nothing has read it since the last release
    ALTER TABLE orders DROP COLUMN resumes;

    python -m pipeline.migrations [FOLDER]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlparse

from orderflow.contracts.history import NoHistoryError, last_release, unpack
from pipeline.commands import NotReadyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FOLDER: Final = Path("orderflow/adapters/postgres/migrations")
FIRST_RELEASE: Final = 8
"""Up to this number there was no release: whoever applies them has no rows yet, and no code that runs."""
_SQL: Final = "*.sql"
POSTGRESQL: Final = "15"
"""The oldest that is not out of support."""

_MORE_RULES: Final = (
    "ban-alter-generated-expression",
    "ban-alter-identity",
    "ban-alter-row-level-security",
    "ban-create-policy",
    "ban-detach-inheritance",
    "ban-disable-trigger",
    "ban-drop-generated-expression",
    "ban-drop-policy",
    "ban-new-write-restriction",
    "ban-replace-view-function",
    "ban-revoke",
    "ban-set-default",
)
"""squawk's own that it leaves out unless asked: each can break code that runs."""
_OTHER_RULES: Final = (
    "prefer-bigint-over-int",  # versions and partitions are small numbers
    "prefer-robust-stmts",  # a migration is a transaction; one that is not must be repeatable, below
    "require-lock-timeout",  # orderflow.adapters.postgres.pool.migrate sets it
    "require-statement-timeout",  # what takes long is found by what it does
)
_ALLOWED: Final = re.compile(r"^\s*--\s*allowed\b\s*([\w-]*)\s*:?\s*(.*)$")
_COMMENT: Final = re.compile(r"^\s*(--.*)?$")
_REPEATABLE_DROP: Final = re.compile(r"DROP\s+INDEX\s+CONCURRENTLY\s+IF\s+EXISTS\s", re.IGNORECASE)
_NAME: Final = re.compile(r"(\d{4})\.[a-z0-9-]+")
_INDEX: Final = re.compile(
    r"CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(IF\s+NOT\s+EXISTS\s+)?(\w+)", re.IGNORECASE
)
_SQUAWK_DROPS: Final = frozenset(
    {"DATABASE", "DOMAIN", "EXTENSION", "FUNCTION", "INDEX", "SCHEMA", "SEQUENCE", "TABLE", "TYPE", "VIEW"}
)
_JUDGED: Final = frozenset({"CREATE", "ALTER", "DROP", "COMMENT", "INSERT", "GRANT", "REVOKE"})
_OF_ROWS: Final = frozenset({"UPDATE", "DELETE", "MERGE", "TRUNCATE"})


@dataclass(frozen=True, slots=True)
class Finding:
    """line counts from 1; 0 is the file as a whole."""

    file: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}{f':{self.line}' if self.line else ''}: {self.rule}: {self.text}"


@dataclass(frozen=True, slots=True)
class _Statement:
    """first is the line of its own comments, last its end; allowed is the reason by rule."""

    first: int
    last: int
    sql: str
    allowed: dict[str, str]


def findings(folder: Path) -> list[Finding]:
    """What is wrong with the migrations of a folder, and not allowed for a reason. Raises NotReadyError."""
    found: list[Finding] = []
    files = sorted(file for file in folder.glob(_SQL) if not file.name.endswith(".rollback.sql"))
    if not files:
        raise NotReadyError(f"{folder}: there are no migrations")
    for number, file in enumerate(files, 1):
        found += _of_name(file, number)
        if number > FIRST_RELEASE:
            found += _of_file(file)
    return found


def changed(folder: Path, released: Path) -> Iterator[Finding]:
    """Released migrations that are others now: databases have them as they were."""
    for old in sorted(released.glob(_SQL)):
        now = folder / old.name
        if not now.is_file():
            yield Finding(old.name, 0, "released", "databases have it; it may not go")
        elif now.read_bytes() != old.read_bytes():
            yield Finding(old.name, 0, "released", "databases have it as it was; say it in a new migration")


def _of_name(file: Path, number: int) -> Iterator[Finding]:
    name = _NAME.fullmatch(file.stem)
    if name is None or int(name[1]) != number:
        yield Finding(file.name, 0, "name", f"its name begins with {number:04}. and goes on in small letters")
    if not file.with_name(f"{file.stem}.rollback.sql").is_file():
        yield Finding(file.name, 0, "rollback", f"there is no {file.stem}.rollback.sql")


def _of_file(file: Path) -> list[Finding]:
    text = file.read_text()
    statements = list(_statements(text))
    transactional = _transactional(text)
    found = [
        Finding(
            file.name, number, "allowed", "say `-- allowed RULE: reason`, squawk's own word has no reason"
        )
        for number, line in enumerate(text.splitlines(), 1)
        if "squawk-ignore" in line
    ]
    found += [
        *_squawk(file, transactional=transactional),
        *_of_statements(file, statements, transactional=transactional),
    ]
    if not transactional:
        found += _repeatable(file, statements)
    used: set[tuple[int, str]] = set()
    left = []
    for each in found:
        statement = next((one for one in statements if one.first <= each.line <= one.last), None)
        if statement is not None and statement.allowed.get(each.rule):
            used.add((statement.first, each.rule))
        else:
            left.append(each)
    for statement in statements:
        for rule, reason in statement.allowed.items():
            if not reason:
                left.append(
                    Finding(file.name, statement.first, "allowed", f"{rule or 'what'}: and the reason?")
                )
            elif (statement.first, rule) not in used:
                left.append(
                    Finding(file.name, statement.first, "allowed", f"{rule}: nothing here needs that")
                )
    return sorted(left, key=lambda each: each.line)


def _statements(text: str) -> Iterator[_Statement]:
    at = 0
    for sql in sqlparse.split(text):
        begins = text.index(sql, at)
        at = begins + len(sql)
        lines = sql.splitlines()
        allowed = {}
        for line in lines:
            if not _COMMENT.match(line):
                break
            if match := _ALLOWED.match(line):
                allowed[match[1]] = match[2].strip()
        first = text.count("\n", 0, begins) + 1
        yield _Statement(first, first + len(lines) - 1, sqlparse.format(sql, strip_comments=True), allowed)


def _transactional(text: str) -> bool:
    """As yoyo reads it: from the comments before the first statement."""
    comments = takewhile(_COMMENT.match, text.splitlines())
    return not any(re.fullmatch(r"\s*--\s*transactional\s*:\s*false\s*", line) for line in comments)


def _of_statements(file: Path, statements: Sequence[_Statement], *, transactional: bool) -> Iterator[Finding]:
    for one in statements:
        words = one.sql.upper().split()
        if not words:
            continue
        if words[0] in _OF_ROWS:
            text = "all rows are locked until it commits: do it by lots, in the code or by hand"
            yield Finding(file.name, one.last, "changes-rows", text)
        elif words[0] not in _JUDGED:
            yield Finding(file.name, one.last, "not-judged", f"nobody knows what {words[0]} does to others")
        elif words[0] == "DROP" and words[1] not in _SQUAWK_DROPS:
            yield Finding(file.name, one.last, "drops", f"code that runs may need this {words[1].lower()}")
        elif transactional and "INDEX" in words[1:3] and "CONCURRENTLY" in words:
            yield Finding(file.name, one.last, "transaction", "begin the file with `-- transactional: false`")


def _repeatable(file: Path, statements: Sequence[_Statement]) -> Iterator[Finding]:
    """Who is killed in the middle begins anew. CREATE INDEX CONCURRENTLY leaves an index that is never used, and with
    IF NOT EXISTS it would stay."""
    before = ""
    for one in statements:
        index = _INDEX.match(one.sql.strip())
        gone = before.upper() == f"DROP INDEX CONCURRENTLY IF EXISTS {index[2]}".upper() if index else True
        if index and (index[1] or not gone):
            text = f"first DROP INDEX CONCURRENTLY IF EXISTS {index[2]}, and no IF NOT EXISTS"
            yield Finding(file.name, one.last, "repeatable", text)
        elif not index and not _REPEATABLE_DROP.match(one.sql.strip()):
            text = (
                "without a transaction go only indexes, CONCURRENTLY; whatever else is a migration of its own"
            )
            yield Finding(file.name, one.last, "repeatable", text)
        before = " ".join(one.sql.split()).rstrip("; ")


def _squawk(file: Path, *, transactional: bool) -> Iterator[Finding]:
    program = Path(sys.executable).with_name("squawk")
    if not program.is_file():
        raise NotReadyError("squawk is not installed; `make .venv/dev` does that")
    with tempfile.NamedTemporaryFile(suffix=".toml") as settings:  # a person's own are not the project's
        done = subprocess.run(  # noqa: S603 - no shell
            [
                str(program),
                f"--config={settings.name}",
                "--reporter=json",
                f"--pg-version={POSTGRESQL}",
                f"--include={','.join(_MORE_RULES)}",
                f"--exclude={','.join(_OTHER_RULES)}",
                *(["--assume-in-transaction"] if transactional else []),
                str(file),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        told = json.loads(done.stdout)
    except ValueError:
        raise NotReadyError(f"squawk failed: {done.stderr.strip() or done.stdout.strip()}") from None
    lines = file.read_text().splitlines()
    for each in told:
        # A new column's; where there is no default, that has a rule of its own.
        told_of = lines[each["line"]][each["column"] : each["column_end"]]
        if each["rule_name"] == "ban-new-write-restriction" and told_of.upper() == "NOT NULL":
            continue
        yield Finding(file.name, each["line"] + 1, each["rule_name"], each["message"])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.migrations",
        description="Whether the release before runs on what the migrations leave, and works on while they run.",
    )
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    folder: Path = parser.parse_args(arguments).folder
    try:
        found = findings(folder)
        tag = last_release(folder)
        if tag:
            with tempfile.TemporaryDirectory() as old:
                unpack(folder, tag, Path(old), ".")
                found += changed(folder, Path(old))
    except (NotReadyError, NoHistoryError) as error:
        sys.stderr.write(f"migrations: {error}\n")
        return 2
    for each in found:
        sys.stdout.write(f"{folder / each.file}{str(each).removeprefix(each.file)}\n")
    count = sum(not file.name.endswith(".rollback.sql") for file in folder.glob(_SQL))
    since = f"those of {tag} are the same" if tag else "no release yet, so none is fixed"
    if found:
        sys.stdout.write(f"{count} migrations: {len(found)} findings\n")
    else:
        sys.stdout.write(f"{count} migrations: old and new code can share the database; {since}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
