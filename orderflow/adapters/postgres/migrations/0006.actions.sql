-- What operators did, one row per action event; shelve writes it together with what the action changed.
-- request is the id under which it was asked for: a selection of letters is one request and many actions.
-- outcome is `done` or `refused`, or `asked` for what another stage carries out and the ledger then tells.
CREATE TABLE operator_actions (
    id          text        PRIMARY KEY,
    request     text        NOT NULL,
    kind        text        NOT NULL,
    order_id    text        NOT NULL,
    parked_id   text        NOT NULL DEFAULT '',
    by          text        NOT NULL,
    reason      text,
    detail      json        NOT NULL DEFAULT '{}',
    outcome     text        NOT NULL,
    refusal     json,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX operator_actions_by_order ON operator_actions (order_id, recorded_at);
CREATE INDEX operator_actions_by_letter ON operator_actions (parked_id, recorded_at) WHERE parked_id <> '';
CREATE INDEX operator_actions_by_request ON operator_actions (request);

-- replay is the last replay's action, returned the replay that the letter was last parked again after: the same in
-- both means that the replay did not help.
ALTER TABLE parked
    ADD COLUMN revision text    NOT NULL DEFAULT '',
    ADD COLUMN replays  integer NOT NULL DEFAULT 0,
    ADD COLUMN replay   text,
    ADD COLUMN returned text;
CREATE INDEX parked_by_event ON parked (source, event_id);
CREATE INDEX parked_by_place ON parked (topic, partition, "offset");
