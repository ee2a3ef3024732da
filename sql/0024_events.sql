-- migrate:up
-- What happened, for those who follow it: written by the transaction that writes the row, which also sends NOTIFY events
-- with the newest id. A transaction takes the advisory lock of the subject `events` before its first id and keeps it until
-- it ends, so ids become visible in ascending order, and whoever has read up to an id has missed nothing before it.
CREATE TABLE events (
    event_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    market   text        NOT NULL,
    kind     text        NOT NULL CHECK (kind IN ('forecast', 'outcome', 'model', 'stale')),
    pair     text        NOT NULL,
    interval text        NOT NULL,
    payload  jsonb       NOT NULL
);
-- The newest event of these kinds tells whether the next one is news.
CREATE INDEX events_state_key ON events (market, pair, "interval", kind, event_id) WHERE kind IN ('model', 'stale');

-- migrate:down
DROP TABLE events;
