ALTER TABLE parked DROP COLUMN recorded_at, DROP COLUMN shelved_by;
ALTER TABLE notifications DROP COLUMN tracked_by;
ALTER TABLE ledger DROP COLUMN taken_by;
