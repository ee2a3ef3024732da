-- migrate:up
-- A pair may be forecast by the foundation model, whose version numbers also count from 1.
ALTER TABLE forecasts ADD COLUMN foundation boolean NOT NULL DEFAULT false;
ALTER TABLE forecasts DROP CONSTRAINT forecasts_market_pair_interval_target_open_ms_model_version_key;
ALTER TABLE forecasts ADD CONSTRAINT forecasts_once
    UNIQUE (market, pair, interval, target_open_ms, model_version, foundation);

-- migrate:down
DELETE FROM forecasts WHERE foundation;
ALTER TABLE forecasts DROP COLUMN foundation;
ALTER TABLE forecasts ADD UNIQUE (market, pair, interval, target_open_ms, model_version);
