-- The revisions that answer for a row beside the one that wrote it. Null where the event does not name one: a release
-- before this one made it, or it came to its topic without us.
-- taken_by: the revision of intake that took the event.
ALTER TABLE ledger ADD COLUMN taken_by text;
-- tracked_by: the revision of track that made the status event.
ALTER TABLE notifications ADD COLUMN tracked_by text;
-- shelved_by: the revision of shelve that stored the row. recorded_at: when shelve stored the row; parked_at is when the
-- stage parked the event, which may be long before.
ALTER TABLE parked
    ADD COLUMN shelved_by  text,
    ADD COLUMN recorded_at timestamptz;
