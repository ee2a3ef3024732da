-- migrate:up
-- The score at each horizon, a list of objects. Empty in rows of versions that scored the next close alone.
ALTER TABLE scores ADD COLUMN horizons jsonb NOT NULL DEFAULT '[]';

-- migrate:down
ALTER TABLE scores DROP COLUMN horizons;
