-- migrate:up
-- A backfill stores forecasts of closes that have come already, which nobody was served. Rows of earlier versions that were
-- written after their close came from a backfill; all are of the interval 1h.
ALTER TABLE forecasts ADD COLUMN backfilled boolean NOT NULL DEFAULT false;
UPDATE forecasts SET backfilled = true WHERE made_at > to_timestamp(target_open_ms / 1000.0) + interval '1 hour';

-- migrate:down
ALTER TABLE forecasts DROP COLUMN backfilled;
