ALTER TABLE parked DROP COLUMN replayed_at, DROP COLUMN topic_id;
ALTER TABLE orders DROP COLUMN decided, DROP COLUMN content_digest;
ALTER TABLE ledger DROP COLUMN replays, DROP COLUMN former_digests, DROP COLUMN content_digest;
DROP INDEX history_by_serial;
ALTER TABLE history DROP COLUMN serial;
DROP TABLE audit_logs, handled;
