-- migrate:up
-- Sessions that were logged out before their cookies expire, so that copies of those cookies are refused.
CREATE TABLE ended_sessions (
    user_id     bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    session_key text        NOT NULL,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (user_id, session_key)
);
CREATE INDEX ended_sessions_expires_at ON ended_sessions (expires_at);

-- migrate:down
DROP TABLE ended_sessions;
