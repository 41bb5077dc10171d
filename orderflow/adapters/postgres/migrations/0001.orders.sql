-- Every statement of ours that finds a row under its feet changed raises this and is tried anew.
CREATE FUNCTION orderflow_conflict(what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'conflict: %', what USING ERRCODE = '40001';
END $$;

-- lock counts the writes: one that read another count changes nothing. status 'awaited' is an order that
-- events wait for and that nobody has placed yet: the row is there so that the placing cannot miss them.
CREATE TABLE orders (
    order_id   text        PRIMARY KEY,
    lock       integer     NOT NULL,
    status     text        NOT NULL DEFAULT 'awaited',
    payment    text        NOT NULL DEFAULT 'unpaid',
    resumes    text,
    currency   text        NOT NULL DEFAULT '',
    total      bigint      NOT NULL DEFAULT 0,
    captured   bigint      NOT NULL DEFAULT 0,
    refunded   bigint      NOT NULL DEFAULT 0,
    version    integer     NOT NULL DEFAULT 0,
    digest     text        NOT NULL DEFAULT '',
    document   json        NOT NULL DEFAULT '{}',
    placed_at  timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_by_status ON orders (status, updated_at DESC);
CREATE INDEX orders_by_update ON orders (updated_at DESC);

-- One row per originating event: what became of it, and which revision decided so.
CREATE TABLE ledger (
    source        text        NOT NULL,
    id            text        NOT NULL,
    order_id      text        NOT NULL,
    kind          text        NOT NULL,
    digest        text        NOT NULL,
    outcome       text        NOT NULL,
    reason        json,
    revision      text        NOT NULL,
    first_version integer,
    last_version  integer,
    occurred_at   timestamptz NOT NULL,
    recorded_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, id)
);
CREATE INDEX ledger_by_order ON ledger (order_id);

-- What an order went through: one row per change of it.
CREATE TABLE history (
    order_id    text        NOT NULL,
    version     integer     NOT NULL,
    source      text        NOT NULL,
    id          text        NOT NULL,
    kind        text        NOT NULL,
    status      text        NOT NULL,
    payment     text        NOT NULL,
    captured    bigint      NOT NULL,
    refunded    bigint      NOT NULL,
    detail      json        NOT NULL,
    revision    text        NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, version)
);

-- Events that came before what they need.
CREATE TABLE waiting (
    source      text        NOT NULL,
    id          text        NOT NULL,
    order_id    text        NOT NULL,
    kind        text        NOT NULL,
    attributes  json        NOT NULL,
    data        json        NOT NULL,
    digest      text        NOT NULL,
    occurred_at timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (source, id)
);
CREATE INDEX waiting_by_order ON waiting (order_id);
CREATE INDEX waiting_by_expiry ON waiting (expires_at);

-- One row per (event, channel, recipient): the claim before sending, then what came of it.
CREATE TABLE notifications (
    event_id      text        NOT NULL,
    channel       text        NOT NULL,
    recipient     text        NOT NULL,
    order_id      text        NOT NULL,
    kind          text        NOT NULL,
    state         text        NOT NULL,
    attempts      integer     NOT NULL DEFAULT 1,
    claim         uuid        NOT NULL,
    claimed_until timestamptz NOT NULL,
    error         text,
    revision      text        NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz,
    PRIMARY KEY (event_id, channel, recipient)
);
CREATE INDEX notifications_by_order ON notifications (order_id);

-- A webhook endpoint that answered 410 gets nothing any more.
CREATE TABLE webhook_endpoints_gone (
    endpoint text        PRIMARY KEY,
    gone_at  timestamptz NOT NULL DEFAULT now()
);

-- Dead letters and poison, for operators. payload is the record's own bytes.
CREATE TABLE parked (
    id         text        PRIMARY KEY,
    order_id   text        NOT NULL,
    stage      text        NOT NULL,
    reasons    json        NOT NULL,
    code       text        NOT NULL,
    event_type text        NOT NULL,
    source     text        NOT NULL,
    event_id   text        NOT NULL,
    topic      text        NOT NULL,
    partition  integer,
    "offset"   bigint,
    http_code  integer,
    attributes json        NOT NULL,
    payload    bytea       NOT NULL,
    state      text        NOT NULL DEFAULT 'open',
    times      integer     NOT NULL DEFAULT 1,
    parked_at  timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX parked_by_state ON parked (state, parked_at DESC);
CREATE INDEX parked_by_order ON parked (order_id);
