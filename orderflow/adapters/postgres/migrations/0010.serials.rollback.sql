-- transactional: false
DROP INDEX CONCURRENTLY IF EXISTS history_by_serial;
