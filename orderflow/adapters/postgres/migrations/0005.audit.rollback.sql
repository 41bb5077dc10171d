DROP INDEX history_by_time;
DROP TABLE audit_republished, audit_runs, audit_positions;
