-- migrate:up
-- Why the newest try failed; NULL where it succeeded, and in rows of older versions.
ALTER TABLE trainings ADD COLUMN failure text;

-- migrate:down
ALTER TABLE trainings DROP COLUMN failure;
