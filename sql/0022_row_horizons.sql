-- migrate:up
-- Every row says of which horizons it is. Forecasts of versions that knew only the next close get it as their one horizon:
-- the update locks these rows alone, which nothing else writes, and NOT VALID leaves the reading of the whole table to the
-- next migration.
UPDATE forecasts SET horizon_quantiles = ARRAY[ARRAY[q05, q10, q25, q50, q75, q90, q95]] WHERE horizon_quantiles IS NULL;
ALTER TABLE forecasts DROP CONSTRAINT horizon_quantiles_shape;
ALTER TABLE forecasts ADD CONSTRAINT horizon_quantiles_shape
    CHECK (coalesce(array_ndims(horizon_quantiles) = 2 AND array_length(horizon_quantiles, 2) = 7, false)) NOT VALID;

-- The horizon of each element of `closes` and of the losses, so that a later grid of horizons does not misread the rows of
-- this one. So far all rows are of the same grid; a constant default rewrites no row.
ALTER TABLE outcomes ADD COLUMN horizons smallint[] NOT NULL DEFAULT '{1,2,3,4,6,8,12,18,24}';
ALTER TABLE outcomes ALTER COLUMN horizons DROP DEFAULT;

-- migrate:down
ALTER TABLE outcomes DROP COLUMN horizons;
ALTER TABLE forecasts DROP CONSTRAINT horizon_quantiles_shape;
ALTER TABLE forecasts ADD CONSTRAINT horizon_quantiles_shape
    CHECK (horizon_quantiles IS NULL OR
           coalesce(array_ndims(horizon_quantiles) = 2 AND array_length(horizon_quantiles, 2) = 7, false)) NOT VALID;
