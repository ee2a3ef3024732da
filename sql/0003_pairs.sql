-- migrate:up
-- The pairs that are trained and served, except while the plan is off or the pair is parked (for parked_reason).
CREATE TABLE pairs (
    pair          text        PRIMARY KEY CHECK (pair ~ '^[a-z0-9]{1,20}_[a-z0-9]{2,10}$'),
    plan          text        NOT NULL DEFAULT 'dedicated' CHECK (plan IN ('dedicated', 'pooled', 'off')),
    min_replicas  smallint    NOT NULL DEFAULT 1 CHECK (min_replicas >= 0),
    max_replicas  smallint    NOT NULL DEFAULT 1 CHECK (max_replicas >= 1),
    parked_at     timestamptz,
    parked_reason text,
    changed_at    timestamptz NOT NULL DEFAULT now(),
    CHECK (min_replicas <= max_replicas),
    CHECK ((parked_at IS NULL) = (parked_reason IS NULL))
);

-- migrate:down
DROP TABLE pairs;
