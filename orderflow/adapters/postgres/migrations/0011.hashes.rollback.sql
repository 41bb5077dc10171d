-- transactional: false
DROP INDEX CONCURRENTLY IF EXISTS parked_by_event;
CREATE INDEX CONCURRENTLY parked_by_event ON parked (source, event_id);
DROP INDEX CONCURRENTLY IF EXISTS parked_by_identity;
