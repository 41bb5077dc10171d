DROP TRIGGER ledger_sequence_mended ON ledger;
DROP TRIGGER ledger_sequence ON ledger;
DROP FUNCTION orderflow_note_sequence();
DROP INDEX ledger_by_sequence;
DROP TABLE sequence_gaps;
DROP INDEX orders_open;
ALTER TABLE orders DROP COLUMN status_since, DROP COLUMN payment_since;
