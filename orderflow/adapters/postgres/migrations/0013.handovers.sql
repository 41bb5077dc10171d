-- How often the notification was handed over to the server that takes it for the recipient, as far as a claim recorded
-- it, and the last revision that handed over otherwise than its claim allows. Null where an older release wrote the row.
ALTER TABLE notifications
    ADD COLUMN handovers     integer,
    ADD COLUMN miscounted_by text;
