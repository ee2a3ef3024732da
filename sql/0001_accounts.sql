-- migrate:up
CREATE TABLE plans (
    plan_id       smallint    GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text        NOT NULL UNIQUE CHECK (name ~ '^[a-z]{1,30}$'),
    monthly_calls integer     NOT NULL CHECK (monthly_calls > 0)
);
INSERT INTO plans (name, monthly_calls) VALUES ('member', 1000), ('service', 100000000);

CREATE TABLE users (
    user_id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text        NOT NULL CHECK (length(name) BETWEEN 3 AND 64),
    password_hash text        NOT NULL,
    plan_id       smallint    NOT NULL REFERENCES plans DEFAULT 1,
    locked_at     timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_name_key ON users (lower(name));

CREATE TABLE roles (
    role_id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name    text     NOT NULL UNIQUE CHECK (name IN ('admin', 'member'))
);
INSERT INTO roles (name) VALUES ('admin'), ('member');

CREATE TABLE user_roles (
    user_id bigint   NOT NULL REFERENCES users ON DELETE CASCADE,
    role_id smallint NOT NULL REFERENCES roles,
    PRIMARY KEY (user_id, role_id)
);

CREATE TABLE api_tokens (
    token_id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id      bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    name         text        NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    prefix       text        NOT NULL,
    token_hash   bytea       NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    revoked_at   timestamptz
);
CREATE UNIQUE INDEX api_tokens_live_name_key ON api_tokens (user_id, name) WHERE revoked_at IS NULL;

-- Calls of a user by day, for charts. The quota is checked against the month's row in monthly_consumptions.
CREATE TABLE user_api_consumptions (
    user_id bigint  NOT NULL REFERENCES users ON DELETE CASCADE,
    day     date    NOT NULL,
    calls   integer NOT NULL CHECK (calls >= 0),
    PRIMARY KEY (user_id, day)
);

CREATE TABLE monthly_consumptions (
    user_id bigint  NOT NULL REFERENCES users ON DELETE CASCADE,
    month   date    NOT NULL CHECK (extract(day FROM month) = 1),
    calls   integer NOT NULL CHECK (calls >= 0),
    PRIMARY KEY (user_id, month)
);

-- migrate:down
DROP TABLE monthly_consumptions, user_api_consumptions, api_tokens, user_roles, roles, users, plans;
