-- migrate:up
-- The forecasts that callers were served: recorded before the close that they forecast first. Older versions also
-- recorded some after that close, when a replica was late or Postgres had been away.
CREATE VIEW served_forecasts AS
SELECT * FROM forecasts
WHERE NOT backfilled AND made_at < to_timestamp(target_open_ms / 1000.0) + forecasts."interval"::interval;

-- migrate:down
DROP VIEW served_forecasts;
