-- What settles events that waited joins on the key; without this index the planner thinks that half of the ledger
-- may be waiting and reads all of it. It has as many entries as events wait: hardly any.
CREATE INDEX ledger_waiting ON ledger (source, id) WHERE outcome = 'waiting';
