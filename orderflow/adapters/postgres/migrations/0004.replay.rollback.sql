DROP INDEX ledger_undone;
ALTER TABLE ledger DROP COLUMN sequence;
