-- transactional: false
-- The audit looks for the changes of a few serials. They grow with the table, so a BRIN costs an insert nearly nothing.
DROP INDEX CONCURRENTLY IF EXISTS history_by_serial;
CREATE INDEX CONCURRENTLY history_by_serial ON history USING brin (serial)
    WITH (pages_per_range = 32, autosummarize = on);
