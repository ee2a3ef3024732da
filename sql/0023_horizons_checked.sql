-- migrate:up
-- Reads the whole table under a lock that lets others read and write it: a migration of its own, so that no stronger lock of
-- the same transaction is held meanwhile.
ALTER TABLE forecasts VALIDATE CONSTRAINT horizon_quantiles_shape;

-- migrate:down
