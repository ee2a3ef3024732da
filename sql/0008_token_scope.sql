-- migrate:up
-- The dashboard's token may do less than the user that it belongs to.
ALTER TABLE api_tokens ADD COLUMN scope text NOT NULL DEFAULT 'owner' CHECK (scope IN ('owner', 'dashboard'));

-- migrate:down
DELETE FROM api_tokens WHERE scope = 'dashboard';
ALTER TABLE api_tokens DROP COLUMN scope;
