DROP INDEX parked_by_place, parked_by_event;
ALTER TABLE parked DROP COLUMN revision, DROP COLUMN replays, DROP COLUMN replay, DROP COLUMN returned;
DROP TABLE operator_actions;
