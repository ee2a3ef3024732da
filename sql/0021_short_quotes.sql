-- migrate:up
-- The exchange has a quote currency of one letter, U.
ALTER TABLE pairs DROP CONSTRAINT pairs_pair_check;
ALTER TABLE pairs ADD CONSTRAINT pairs_pair_check CHECK (pair ~ '^[a-z0-9]{1,20}_[a-z0-9]{1,10}$');

-- migrate:down
DELETE FROM pairs WHERE pair !~ '^[a-z0-9]{1,20}_[a-z0-9]{2,10}$';
ALTER TABLE pairs DROP CONSTRAINT pairs_pair_check;
ALTER TABLE pairs ADD CONSTRAINT pairs_pair_check CHECK (pair ~ '^[a-z0-9]{1,20}_[a-z0-9]{2,10}$');
