-- migrate:up
-- A session's cookie holds the version it began under. Raising the version ends every session, copied cookies too.
ALTER TABLE users
    ADD COLUMN session_version integer NOT NULL DEFAULT 1,
    ADD COLUMN last_login_at   timestamptz;

INSERT INTO plans (name, monthly_calls) VALUES ('trader', 20000);

-- One-time links that set a password. The secret itself is only in the link.
CREATE TABLE password_links (
    link_hash  bytea       PRIMARY KEY CHECK (length(link_hash) = 32),
    user_id    bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL CHECK (expires_at > created_at)
);
CREATE INDEX password_links_user ON password_links (user_id);

-- Names instead of foreign keys: an entry stays when its users are deleted.
CREATE TABLE audit_log (
    audit_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    actor    text        NOT NULL,
    action   text        NOT NULL,
    subject  text        NOT NULL,
    detail   text        NOT NULL DEFAULT ''
);

-- Attempts to log in and the like, counted for all processes together.
CREATE TABLE tries (
    key     text        PRIMARY KEY,
    count   integer     NOT NULL CHECK (count >= 0),
    ends_at timestamptz NOT NULL
);
CREATE INDEX tries_ends_at ON tries (ends_at);

-- migrate:down
DROP TABLE tries, audit_log, password_links;
UPDATE users SET plan_id = 1 WHERE plan_id = (SELECT plan_id FROM plans WHERE name = 'trader');
DELETE FROM plans WHERE name = 'trader';
ALTER TABLE users DROP COLUMN session_version, DROP COLUMN last_login_at;
