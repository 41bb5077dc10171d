ALTER TABLE ledger DROP COLUMN validated_by;
