DROP INDEX ledger_waiting;
