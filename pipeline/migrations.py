"""Can the last release run on the schema that each migration leaves, and write while it runs? `make migrations`.

While a release is deployed, two releases work on one database, and the new release may be rolled back. So a migration
adds and removes nothing, refuses nothing that the old code writes, and holds no lock for longer on a larger table.
squawk checks most of that, this module the rest. A later release may remove what no running code uses; the reason is
given above the statement:

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
"""Migrations up to this number are older than the first release: no database with rows, no running code."""
_SQL: Final = "*.sql"
POSTGRESQL: Final = "15"
"""The oldest supported version."""

_OPTIONAL_RULES: Final = (
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
"""Rules of squawk that are off by default: each finds a change that can break running code."""
_EXCLUDED_RULES: Final = (
    "prefer-bigint-over-int",  # versions and partitions are small numbers
    "prefer-robust-stmts",  # a migration is a transaction; for the others _check_repeatable is stricter
    "require-lock-timeout",  # orderflow.adapters.postgres.schema.migrate sets it
    "require-statement-timeout",  # the other rules find the statements that take long
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
_KNOWN_STATEMENTS: Final = frozenset({"CREATE", "ALTER", "DROP", "COMMENT", "INSERT", "GRANT", "REVOKE"})
_ROW_STATEMENTS: Final = frozenset({"UPDATE", "DELETE", "MERGE", "TRUNCATE"})


@dataclass(frozen=True, slots=True)
class Finding:
    """Lines count from 1; line 0 is the file as a whole."""

    file: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}{f':{self.line}' if self.line else ''}: {self.rule}: {self.text}"


@dataclass(frozen=True, slots=True)
class _Statement:
    """`first` is the line of the comments above it, `last` its last line; `allowed` has the reason for each rule."""

    first: int
    last: int
    sql: str
    allowed: dict[str, str]


def findings(folder: Path) -> list[Finding]:
    """What is wrong with the migrations of a folder, without what they allow for a reason. Raises NotReadyError."""
    result: list[Finding] = []
    files = sorted(file for file in folder.glob(_SQL) if not file.name.endswith(".rollback.sql"))
    if not files:
        raise NotReadyError(f"{folder}: there are no migrations")
    for number, file in enumerate(files, 1):
        result += _check_name(file, number)
        if number > FIRST_RELEASE:
            result += _check_file(file)
    return result


def changed(folder: Path, released: Path) -> Iterator[Finding]:
    """Released migrations that are missing or differ: databases have applied the released text."""
    for old in sorted(released.glob(_SQL)):
        new = folder / old.name
        if not new.is_file():
            yield Finding(old.name, 0, "released", "databases have applied it; it may not go")
        elif new.read_bytes() != old.read_bytes():
            text = "databases have applied it as it was; write the change as a new migration"
            yield Finding(old.name, 0, "released", text)


def _check_name(file: Path, number: int) -> Iterator[Finding]:
    name = _NAME.fullmatch(file.stem)
    if name is None or int(name[1]) != number:
        yield Finding(file.name, 0, "name", f"the name must be {number:04}. and small letters")
    if not file.with_name(f"{file.stem}.rollback.sql").is_file():
        yield Finding(file.name, 0, "rollback", f"there is no {file.stem}.rollback.sql")


def _check_file(file: Path) -> list[Finding]:
    text = file.read_text()
    statements = list(_statements(text))
    transactional = _transactional(text)
    candidates = [
        Finding(
            file.name, number, "allowed", "write `-- allowed RULE: reason`, squawk-ignore gives no reason"
        )
        for number, line in enumerate(text.splitlines(), 1)
        if "squawk-ignore" in line
    ]
    candidates += [
        *_run_squawk(file, transactional=transactional),
        *_check_statements(file, statements, transactional=transactional),
    ]
    if not transactional:
        candidates += _check_repeatable(file, statements)
    return sorted(_without_allowed(file, candidates, statements), key=lambda finding: finding.line)


def _without_allowed(
    file: Path, candidates: Sequence[Finding], statements: Sequence[_Statement]
) -> Iterator[Finding]:
    """Drops the findings that a statement allows, and adds one for each exception without a reason or a need."""
    used: set[tuple[int, str]] = set()
    for finding in candidates:
        statement = next((each for each in statements if each.first <= finding.line <= each.last), None)
        if statement is not None and statement.allowed.get(finding.rule):
            used.add((statement.first, finding.rule))
        else:
            yield finding
    for statement in statements:
        for rule, reason in statement.allowed.items():
            if not reason:
                text = f"{rule or 'no rule'}: the reason is missing"
                yield Finding(file.name, statement.first, "allowed", text)
            elif (statement.first, rule) not in used:
                text = f"{rule}: nothing in this statement needs the exception"
                yield Finding(file.name, statement.first, "allowed", text)


def _statements(text: str) -> Iterator[_Statement]:
    end = 0
    for sql in sqlparse.split(text):
        start = text.index(sql, end)
        end = start + len(sql)
        lines = sql.splitlines()
        allowed = {}
        for line in takewhile(_COMMENT.match, lines):
            if match := _ALLOWED.match(line):
                allowed[match[1]] = match[2].strip()
        first = text.count("\n", 0, start) + 1
        yield _Statement(first, first + len(lines) - 1, sqlparse.format(sql, strip_comments=True), allowed)


def _transactional(text: str) -> bool:
    """yoyo reads it from the comments before the first statement."""
    comments = takewhile(_COMMENT.match, text.splitlines())
    return not any(re.fullmatch(r"\s*--\s*transactional\s*:\s*false\s*", line) for line in comments)


def _check_statements(
    file: Path, statements: Sequence[_Statement], *, transactional: bool
) -> Iterator[Finding]:
    for statement in statements:
        words = statement.sql.upper().split()
        if not words:
            continue
        if words[0] in _ROW_STATEMENTS:
            text = "locks all its rows until the commit: change rows in batches, in the code or by hand"
            yield Finding(file.name, statement.last, "changes-rows", text)
        elif words[0] not in _KNOWN_STATEMENTS:
            text = f"the effect of {words[0]} on running code is not known"
            yield Finding(file.name, statement.last, "not-judged", text)
        elif words[0] == "DROP" and words[1] not in _SQUAWK_DROPS:
            text = f"running code may need this {words[1].lower()}"
            yield Finding(file.name, statement.last, "drops", text)
        elif transactional and "INDEX" in words[1:3] and "CONCURRENTLY" in words:
            text = "begin the file with `-- transactional: false`"
            yield Finding(file.name, statement.last, "transaction", text)


def _check_repeatable(file: Path, statements: Sequence[_Statement]) -> Iterator[Finding]:
    """A migration without a transaction that was killed starts again. A killed CREATE INDEX CONCURRENTLY leaves an
    invalid index, and IF NOT EXISTS would keep that."""
    previous = ""
    for statement in statements:
        sql = statement.sql.strip()
        index = _INDEX.match(sql)
        if index:
            dropped_before = previous.upper() == f"DROP INDEX CONCURRENTLY IF EXISTS {index[2]}".upper()
            if index[1] or not dropped_before:
                text = f"first DROP INDEX CONCURRENTLY IF EXISTS {index[2]}, and no IF NOT EXISTS"
                yield Finding(file.name, statement.last, "repeatable", text)
        elif not _REPEATABLE_DROP.match(sql):
            text = (
                "only CONCURRENTLY indexes may be without a transaction; move the rest to another migration"
            )
            yield Finding(file.name, statement.last, "repeatable", text)
        previous = " ".join(statement.sql.split()).rstrip("; ")


def _run_squawk(file: Path, *, transactional: bool) -> Iterator[Finding]:
    program = Path(sys.executable).with_name("squawk")
    if not program.is_file():
        raise NotReadyError("squawk is not installed; `make .venv/dev` does that")
    with tempfile.NamedTemporaryFile(suffix=".toml") as settings:  # not the settings of whoever runs this
        done = subprocess.run(  # noqa: S603 - no shell
            [
                str(program),
                f"--config={settings.name}",
                "--reporter=json",
                f"--pg-version={POSTGRESQL}",
                f"--include={','.join(_OPTIONAL_RULES)}",
                f"--exclude={','.join(_EXCLUDED_RULES)}",
                *(["--assume-in-transaction"] if transactional else []),
                str(file),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        reports = json.loads(done.stdout)
    except ValueError:
        raise NotReadyError(f"squawk failed: {done.stderr.strip() or done.stdout.strip()}") from None
    lines = file.read_text().splitlines()
    for report in reports:
        # NOT NULL of a new column. Without a default the rule adding-required-field reports it.
        excerpt = lines[report["line"]][report["column"] : report["column_end"]]
        if report["rule_name"] == "ban-new-write-restriction" and excerpt.upper() == "NOT NULL":
            continue
        yield Finding(file.name, report["line"] + 1, report["rule_name"], report["message"])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.migrations",
        description="Check that the last release can run on the migrated schema, and during the migrations.",
    )
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    folder: Path = parser.parse_args(arguments).folder
    try:
        result = findings(folder)
        tag = last_release(folder)
        if tag:
            with tempfile.TemporaryDirectory() as released:
                unpack(folder, tag, Path(released), ".")
                result += changed(folder, Path(released))
    except (NotReadyError, NoHistoryError) as error:
        sys.stderr.write(f"migrations: {error}\n")
        return 2
    for finding in result:
        sys.stdout.write(f"{folder / finding.file}{str(finding).removeprefix(finding.file)}\n")
    count = sum(not file.name.endswith(".rollback.sql") for file in folder.glob(_SQL))
    if result:
        sys.stdout.write(f"{count} migrations: {len(result)} findings\n")
    else:
        since = f"those of {tag} are the same" if tag else "no release yet, so none is fixed"
        sys.stdout.write(f"{count} migrations: old and new code can share the database; {since}\n")
    return 1 if result else 0


if __name__ == "__main__":
    sys.exit(main())
