-- transactional: false
-- Whoever writes to a topic chooses source and id, of any length. An index over their hash has room for all of them:
-- an entry of a B-tree has 2,704 bytes at most, and a longer one failed the whole row.
DROP INDEX CONCURRENTLY IF EXISTS parked_by_identity;
CREATE INDEX CONCURRENTLY parked_by_identity ON parked (md5(source || chr(31) || event_id));
DROP INDEX CONCURRENTLY IF EXISTS parked_by_event;
