-- How far the audit has read each topic: everything before next_offset is accounted for.
CREATE TABLE audit_positions (
    topic       text    NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint  NOT NULL,
    PRIMARY KEY (topic, partition)
);

-- One row per run. state is 'running' until it ends; the next run calls those that never did 'killed'.
-- Up to announced_until every change in the history has its status event.
CREATE TABLE audit_runs (
    id              uuid        PRIMARY KEY,
    started_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    state           text        NOT NULL DEFAULT 'running',
    announced_until timestamptz,
    report          json
);
CREATE INDEX audit_runs_by_start ON audit_runs (started_at DESC);

-- What the audit published again, and how often: after some tries it parks the event instead.
CREATE TABLE audit_republished (
    topic    text        NOT NULL,
    source   text        NOT NULL,
    id       text        NOT NULL,
    times    integer     NOT NULL DEFAULT 1,
    first_at timestamptz NOT NULL DEFAULT now(),
    last_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, source, id)
);

CREATE INDEX history_by_time ON history USING brin (recorded_at) WITH (pages_per_range = 32, autosummarize = on);
