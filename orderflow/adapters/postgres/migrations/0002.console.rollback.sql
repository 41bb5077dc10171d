DROP TRIGGER orders_placed ON orders;
DROP TRIGGER orders_new ON orders;
DROP FUNCTION orderflow_note_placed_order();
DROP FUNCTION orderflow_note_new_orders();
DROP FUNCTION orderflow_terms(text, json);
DROP TABLE order_search;
DROP INDEX notifications_by_time, ledger_by_time, parked_by_time, notifications_failed, orders_not_paid, orders_by_need;
ALTER TABLE orders DROP COLUMN needs;
