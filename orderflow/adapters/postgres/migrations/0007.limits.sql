-- Since when an order is in its status and its payment in its state: what a shop's limits are held against.
ALTER TABLE orders
    ADD COLUMN status_since  timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN payment_since timestamptz NOT NULL DEFAULT now();
UPDATE orders SET status_since = updated_at, payment_since = updated_at;

-- Orders that are not at their end. Those are few, so that this index stays small, however many orders there were.
CREATE INDEX orders_open ON orders (status, status_since) INCLUDE (payment, payment_since, order_id)
    WHERE status IN ('awaited', 'held', 'accepted', 'packed', 'shipped');

-- Numbers that are missing between the smallest and the largest that a producer gave an order's events. A producer
-- that gives none costs a look at a condition, one without gaps no row.
CREATE TABLE sequence_gaps (
    order_id text        NOT NULL,
    source   text        NOT NULL,
    missing  bigint      NOT NULL,
    since    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, source)
);
CREATE INDEX sequence_gaps_by_time ON sequence_gaps (since);
CREATE INDEX ledger_by_sequence ON ledger (order_id, source, sequence) WHERE sequence IS NOT NULL;

CREATE FUNCTION orderflow_note_sequence() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    absent bigint;
BEGIN
    SELECT max(l.sequence) - min(l.sequence) + 1 - count(DISTINCT l.sequence) INTO absent FROM ledger l
    WHERE l.order_id = NEW.order_id AND l.source = NEW.source AND l.sequence IS NOT NULL;
    IF absent > 0 THEN
        INSERT INTO sequence_gaps (order_id, source, missing) VALUES (NEW.order_id, NEW.source, absent)
        ON CONFLICT (order_id, source) DO UPDATE SET missing = absent;
    ELSE
        DELETE FROM sequence_gaps g WHERE g.order_id = NEW.order_id AND g.source = NEW.source;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER ledger_sequence AFTER INSERT ON ledger FOR EACH ROW
    WHEN (NEW.sequence IS NOT NULL) EXECUTE FUNCTION orderflow_note_sequence();
CREATE TRIGGER ledger_sequence_mended AFTER UPDATE OF sequence, order_id ON ledger FOR EACH ROW
    WHEN (NEW.sequence IS NOT NULL
          AND (OLD.sequence, OLD.order_id) IS DISTINCT FROM (NEW.sequence, NEW.order_id))
    EXECUTE FUNCTION orderflow_note_sequence();
