-- The places that are handled: the offsets whose record has come to its end, by the stage that reads the topic. In steady
-- state one range that grows. stage 'track', topic 'history' holds the serials of the changes that are announced.
CREATE TABLE handled (
    stage     text           NOT NULL,
    topic     text           NOT NULL,
    topic_id  text           NOT NULL,
    partition integer        NOT NULL,
    offsets   int8multirange NOT NULL,
    PRIMARY KEY (stage, topic_id, partition)
) WITH (fillfactor = 50);

-- What the audit knows of each partition's log. Below judged, every offset is accounted for. checkpoints are pairs of an
-- offset and the digest of its record, the newest last: they show whether the log is still the same.
CREATE TABLE audit_logs (
    topic        text        NOT NULL,
    topic_id     text        NOT NULL,
    partition    integer     NOT NULL,
    judged       bigint      NOT NULL DEFAULT 0,
    log_end      bigint      NOT NULL,
    leader_epoch integer,
    checkpoints  json        NOT NULL DEFAULT '[]',
    seen_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic_id, partition)
);

-- Counts the changes, so that a change that was never announced is found however clocks behave. Only the last minutes'
-- changes get a number here: older changes are announced, and to number them would write the whole table anew.
ALTER TABLE history ADD COLUMN serial bigint;
CREATE SEQUENCE history_serial OWNED BY history.serial;
-- allowed ban-set-default: the code before names the columns that it writes, and serial is not among them
ALTER TABLE history ALTER COLUMN serial SET DEFAULT nextval('history_serial');
-- allowed changes-rows: those of ten minutes, which history_by_time finds
UPDATE history SET serial = nextval('history_serial') WHERE recorded_at > now() - interval '10 minutes';

-- replays are the operators' replays that were decided, former_digests the digests of contents that an edit replaced,
-- content_digest the digest of what was sent, which a release with more optional fields computes alike.
ALTER TABLE ledger
    ADD COLUMN replays        text[],
    ADD COLUMN former_digests text[],
    ADD COLUMN content_digest text;

-- decided has, by source, the last place and the last sequence of its events that were decided.
ALTER TABLE orders
    ADD COLUMN decided        json,
    ADD COLUMN content_digest text;

-- With partition and offset, topic_id is the place of the record that was parked.
ALTER TABLE parked
    ADD COLUMN replayed_at timestamptz,
    ADD COLUMN topic_id    text NOT NULL DEFAULT '';
