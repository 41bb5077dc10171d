"""What a migration may do while the last release is running, and how an exception gives its reason."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import migrations
from pipeline.commands import NotReadyError

FOLDER = Path(__file__).parents[3] / migrations.FOLDER
Write = Callable[[str], list[str]]


@pytest.fixture
def findings_of(tmp_path: Path) -> Write:
    """Writes a ninth migration after the eight from before the first release, and gives the rules that it breaks."""
    for number in range(1, migrations.FIRST_RELEASE + 1):
        for kind in ("", ".rollback"):
            (tmp_path / f"{number:04}.old{kind}.sql").write_text("DROP TABLE orders;\n")
    (tmp_path / "0009.new.rollback.sql").write_text("SELECT 1;\n")

    def write(sql: str) -> list[str]:
        (tmp_path / "0009.new.sql").write_text(sql)
        return [finding.rule for finding in migrations.findings(tmp_path)]

    return write


def test_our_migrations_let_old_and_new_code_share_the_database() -> None:
    assert migrations.findings(FOLDER) == []


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("ALTER TABLE orders DROP COLUMN resumes;", "ban-drop-column"),
        ("DROP TABLE ledger;", "ban-drop-table"),
        ("ALTER TABLE orders RENAME COLUMN total TO amount;", "renaming-column"),
        ("ALTER TABLE orders RENAME TO purchases;", "renaming-table"),
        ("ALTER TABLE orders ALTER COLUMN lock TYPE bigint;", "changing-column-type"),
        ("ALTER TABLE orders ADD COLUMN note text NOT NULL;", "adding-required-field"),
        ("ALTER TABLE orders ALTER COLUMN placed_at SET NOT NULL;", "adding-not-nullable-field"),
        ("ALTER TABLE orders ALTER COLUMN digest DROP NOT NULL;", "ban-drop-not-null"),
        ("ALTER TABLE orders ALTER COLUMN digest DROP DEFAULT;", "ban-drop-default"),
        ("ALTER TABLE orders ADD COLUMN n uuid DEFAULT gen_random_uuid();", "adding-field-with-default"),
        ("ALTER TABLE orders ADD CONSTRAINT c CHECK (total > 0) NOT VALID;", "ban-new-write-restriction"),
        ("ALTER TABLE orders ADD CONSTRAINT c CHECK (total > 0);", "constraint-missing-not-valid"),
        ("ALTER TABLE ledger DROP CONSTRAINT ledger_pkey;", "ban-drop-constraint"),
        ("CREATE INDEX ledger_by_kind ON ledger (kind);", "require-concurrent-index-creation"),
        ("DROP INDEX ledger_by_time;", "require-concurrent-index-deletion"),
        ("DROP FUNCTION orderflow_terms(text, json);", "ban-drop-function"),
        ("DROP TRIGGER orders_new ON orders;", "drops"),
        ("ALTER TABLE orders DISABLE TRIGGER orders_new;", "ban-disable-trigger"),
        ("UPDATE orders SET digest = '';", "changes-rows"),
        ("WITH old AS (SELECT 1) DELETE FROM ledger;", "not-judged"),
        ("TRUNCATE audit_runs;", "changes-rows"),
        ("LOCK TABLE orders;", "not-judged"),
        ("DO $$ BEGIN UPDATE orders SET digest = ''; END $$;", "not-judged"),
        ("CREATE INDEX CONCURRENTLY i ON orders (total);", "transaction"),
        ("ALTER TABLE orders ADD COLUMN code text UNIQUE;", "ban-new-write-restriction"),
        ("this is no SQL;", "syntax-error"),
        ("-- squawk-ignore ban-drop-table\nDROP TABLE ledger;", "allowed"),
    ],
)
def test_what_the_old_code_cannot_live_with_is_found(findings_of: Write, sql: str, rule: str) -> None:
    assert rule in findings_of(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE ledger ADD COLUMN validated_by text;",
        "ALTER TABLE parked ADD COLUMN replays integer NOT NULL DEFAULT 0;",
        "CREATE TABLE notes (id text PRIMARY KEY, at timestamptz NOT NULL);\nCREATE INDEX notes_at ON notes (at);",
        "CREATE TABLE notes (id text PRIMARY KEY);\nINSERT INTO notes SELECT order_id FROM orders;",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM x; RETURN NULL; END $$;",
        "-- transactional: false\nDROP INDEX CONCURRENTLY IF EXISTS i;\nCREATE INDEX CONCURRENTLY i ON orders (total);",
        "-- transactional: false\nDROP INDEX CONCURRENTLY IF EXISTS ledger_by_time;",
    ],
)
def test_what_only_adds_is_fine(findings_of: Write, sql: str) -> None:
    assert findings_of(sql) == []


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX CONCURRENTLY i ON orders (total);",
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON orders (total);",
        "DROP INDEX CONCURRENTLY IF EXISTS j;\nCREATE INDEX CONCURRENTLY i ON orders (total);",
        "DROP INDEX CONCURRENTLY i;",
        "ALTER TABLE orders ADD COLUMN note text;",
    ],
)
def test_what_is_outside_of_a_transaction_can_be_begun_anew(findings_of: Write, sql: str) -> None:
    assert "repeatable" in findings_of(f"-- transactional: false\n{sql}")


def test_an_exception_says_why_and_is_for_its_statement_only(findings_of: Write) -> None:
    drop = "ALTER TABLE orders DROP COLUMN resumes;"
    assert findings_of(f"-- allowed ban-drop-column: nothing has read it since v1.4.0\n{drop}") == []
    assert findings_of(f"-- allowed ban-drop-column:\n{drop}") == ["allowed", "ban-drop-column"]
    assert findings_of(f"-- allowed\n{drop}") == ["allowed", "ban-drop-column"]
    above = (
        "-- allowed ban-drop-column: nothing has read it since v1.4.0\nALTER TABLE orders ADD COLUMN n text;"
    )
    assert findings_of(f"{above}\n{drop}") == ["allowed", "ban-drop-column"]


def test_an_exception_that_nothing_needs_goes(findings_of: Write) -> None:
    assert findings_of("-- allowed ban-drop-column: once it did\nALTER TABLE orders ADD COLUMN n text;") == [
        "allowed"
    ]


def test_a_finding_is_at_the_line_where_it_stands(tmp_path: Path, findings_of: Write) -> None:
    findings_of(
        "-- One more.\nALTER TABLE orders ADD COLUMN n text;\n\n-- And this.\nDROP TABLE\n    ledger;\n"
    )
    (finding,) = migrations.findings(tmp_path)
    assert str(finding).startswith("0009.new.sql:5: ban-drop-table: ")


def test_migrations_have_one_number_each_and_a_way_back(tmp_path: Path, findings_of: Write) -> None:
    (tmp_path / "0009.other.sql").write_text("ALTER TABLE orders ADD COLUMN n text;\n")
    assert findings_of("ALTER TABLE orders ADD COLUMN m text;") == ["name", "rollback"]


def git(folder: Path, *arguments: str) -> None:
    author = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    subprocess.run(["git", "-C", str(folder), *author, *arguments], check=True, capture_output=True)


def test_a_released_migration_stays_as_it_is(
    tmp_path: Path, findings_of: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert findings_of("ALTER TABLE orders ADD COLUMN n text;") == []
    git(tmp_path, "init", "--initial-branch=main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message=the first release")
    assert migrations.main([str(tmp_path)]) == 0
    assert "no release yet" in capsys.readouterr().out
    git(tmp_path, "tag", "v0.1.0")
    assert migrations.main([str(tmp_path)]) == 0
    assert "those of v0.1.0 are the same" in capsys.readouterr().out
    (tmp_path / "0009.new.sql").write_text("ALTER TABLE orders ADD COLUMN m text;\n")
    (tmp_path / "0003.old.rollback.sql").unlink()
    assert migrations.main([str(tmp_path)]) == 1
    output = capsys.readouterr().out
    assert re.search(r"0009\.new\.sql: released: .*new migration", output)
    assert re.search(r"0003\.old\.rollback\.sql: released: .*may not go", output)
    git(tmp_path, "commit", "--all", "--message=after it")
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--depth=1", "--no-tags", tmp_path.as_uri(), str(shallow))
    assert migrations.main([str(shallow)]) == 2
    assert "git fetch --unshallow --tags" in capsys.readouterr().err


def test_a_folder_without_migrations_is_no_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NotReadyError):
        migrations.findings(tmp_path)
    assert migrations.main([str(tmp_path)]) == 2
    assert "there are no migrations" in capsys.readouterr().err
