-- Whose verdict a ledger row bears: the revision of validate, next to revision, which is track's. Null where the
-- event came past validate.
ALTER TABLE ledger ADD COLUMN validated_by text;
