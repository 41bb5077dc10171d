ALTER TABLE notifications DROP COLUMN miscounted_by, DROP COLUMN handovers;
