-- What operators ask for, so that no page of the console reads a whole table.

-- Why an order needs a hand, if it does: few orders do at any time, so this index stays small and the rest of
-- the orders pay for it only by looking at the condition.
ALTER TABLE orders ADD COLUMN needs text GENERATED ALWAYS AS (
    CASE WHEN status = 'held' THEN 'held'
         WHEN status = 'awaited' THEN 'awaited'
         WHEN status IN ('cancelled', 'rejected', 'returned') AND captured > refunded THEN 'refund_due'
         WHEN status IN ('shipped', 'delivered') AND payment NOT IN ('paid', 'refunded') THEN 'unpaid'
    END) STORED;
CREATE INDEX orders_by_need ON orders (needs, updated_at DESC) WHERE needs IS NOT NULL;

-- Most orders are paid, and those are quick to meet on the way through orders_by_update.
CREATE INDEX orders_not_paid ON orders (payment, updated_at DESC) WHERE payment <> 'paid';

CREATE INDEX notifications_failed ON notifications (created_at DESC) WHERE state = 'failed';
CREATE INDEX parked_by_time ON parked (parked_at DESC, id DESC);

-- Rates look at the last minutes only, and these tables grow at their end: a BRIN costs an insert nearly nothing.
CREATE INDEX ledger_by_time ON ledger USING brin (recorded_at) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX notifications_by_time ON notifications USING brin (created_at)
    WITH (pages_per_range = 32, autosummarize = on);

-- What an order is found by. An own table, because an index on orders would be written anew at each of an order's
-- updates, and these words are written once. It holds personal data: who erases an order's, erases it here too.
CREATE TABLE order_search (
    order_id  text     PRIMARY KEY,
    placed_at timestamptz,
    terms     tsvector NOT NULL
);
CREATE INDEX order_search_by_term ON order_search USING gin (terms);
CREATE INDEX order_search_by_placing ON order_search (placed_at);

-- The order id, the e-mail address and the words of the name, in lower case; chr(160) is a space that does not break.
CREATE FUNCTION orderflow_terms(order_id text, customer json) RETURNS tsvector LANGUAGE sql STABLE AS $$
    SELECT array_to_tsvector(array_remove(string_to_array(translate(lower(
        concat_ws(' ', order_id, customer ->> 'email', customer ->> 'name')), chr(160), ' '), ' '), ''))
$$;

CREATE FUNCTION orderflow_note_new_orders() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO order_search (order_id, placed_at, terms)
    SELECT n.order_id, n.placed_at, orderflow_terms(n.order_id, n.customer)
    -- OFFSET 0 keeps the planner from taking the customer out of the document once for each use.
    FROM (SELECT order_id, placed_at, document -> 'customer' AS customer FROM new_orders OFFSET 0) n;
    RETURN NULL;
END $$;
CREATE TRIGGER orders_new AFTER INSERT ON orders REFERENCING NEW TABLE AS new_orders
    FOR EACH STATEMENT EXECUTE FUNCTION orderflow_note_new_orders();

CREATE FUNCTION orderflow_note_placed_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE order_search
    SET placed_at = NEW.placed_at, terms = orderflow_terms(NEW.order_id, NEW.document -> 'customer')
    WHERE order_id = NEW.order_id;
    RETURN NULL;
END $$;
CREATE TRIGGER orders_placed AFTER UPDATE ON orders FOR EACH ROW
    WHEN (OLD.placed_at IS NULL AND NEW.placed_at IS NOT NULL) EXECUTE FUNCTION orderflow_note_placed_order();

INSERT INTO order_search (order_id, placed_at, terms)
SELECT order_id, placed_at, orderflow_terms(order_id, document -> 'customer') FROM orders;
