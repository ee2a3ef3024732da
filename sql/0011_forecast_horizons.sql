-- migrate:up
-- The quantiles of every horizon, the next close first: [horizons][7]. NULL in rows of versions that forecast only the
-- next close; q05 to q95 are always of the next close. `real` is precise to seven digits.
ALTER TABLE forecasts ADD COLUMN horizon_quantiles real[];
ALTER TABLE forecasts ADD CONSTRAINT horizon_quantiles_shape
    CHECK (horizon_quantiles IS NULL OR
           coalesce(array_ndims(horizon_quantiles) = 2 AND array_length(horizon_quantiles, 2) = 7, false));

-- migrate:down
ALTER TABLE forecasts DROP COLUMN horizon_quantiles;
