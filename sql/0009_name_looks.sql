-- migrate:up
-- The skeleton of a name, unique so that no new name looks like another one: make_us_rich/accounts/credentials.py.
-- Of existing accounts that look alike only the oldest gets it; the others keep working without.
ALTER TABLE users ADD COLUMN look text;
UPDATE users SET look = made.look
FROM (
    SELECT DISTINCT ON (look) user_id, look
    FROM (
        SELECT user_id, replace(replace(translate(
            lower(regexp_replace(normalize(name, NFKD), '[\u0300-\u036f]', '', 'g')),
            '01i|', 'olll'), 'rn', 'm'), 'vv', 'w') AS look
        FROM users
    ) AS every
    ORDER BY look, user_id
) AS made
WHERE users.user_id = made.user_id;
CREATE UNIQUE INDEX users_look_key ON users (look);

-- migrate:down
ALTER TABLE users DROP COLUMN look;
