DROP TABLE parked, webhook_endpoints_gone, notifications, waiting, history, ledger, orders;
DROP FUNCTION orderflow_conflict(text);
