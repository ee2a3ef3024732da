-- migrate:up
-- The messages that were to be posted to Discord.
CREATE TABLE alerts (
    alert_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    title    text        NOT NULL,
    text     text        NOT NULL,
    problem  text        -- why it was not posted; NULL when it was
);

-- migrate:down
DROP TABLE alerts;
