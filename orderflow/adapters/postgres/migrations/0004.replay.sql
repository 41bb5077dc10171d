-- The number that a producer gave its event (CloudEvents extension sequence), for finding gaps.
ALTER TABLE ledger ADD COLUMN sequence bigint;

-- What replays settle joins on the key, as what waited does; see ledger_waiting.
CREATE INDEX ledger_undone ON ledger (source, id) WHERE outcome IN ('parked', 'refused');
