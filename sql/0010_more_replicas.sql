-- migrate:up
-- A pair gets up to four replicas under load; before, the default was one at least and at most.
ALTER TABLE pairs ALTER COLUMN max_replicas SET DEFAULT 4;
UPDATE pairs SET max_replicas = 4 WHERE min_replicas = 1 AND max_replicas = 1;

-- migrate:down
ALTER TABLE pairs ALTER COLUMN max_replicas SET DEFAULT 1;
