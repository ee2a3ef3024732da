-- migrate:up
-- The sessions in use, as the account page lists them. Only the cookie says whether a session is valid: a row grants
-- nothing. `device`: browser and system in words, such as "Firefox on Linux".
CREATE TABLE sessions (
    session_id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id         bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    session_key     text        NOT NULL,
    session_version integer     NOT NULL,
    device          text        NOT NULL,
    started_at      timestamptz NOT NULL,
    used_at         timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL,
    UNIQUE (user_id, session_key)
);
CREATE INDEX sessions_expires_at ON sessions (expires_at);

-- migrate:down
DROP TABLE sessions;
