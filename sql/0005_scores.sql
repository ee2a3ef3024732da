-- migrate:up
-- How good the forecasts of the last week were: one row for each pair and day, from the day's newest scoring.
CREATE TABLE scores (
    market         text             NOT NULL,
    pair           text             NOT NULL,
    interval       text             NOT NULL,
    day            date             NOT NULL,
    as_of_ms       bigint           NOT NULL,
    n              integer          NOT NULL CHECK (n > 0),
    skill_vs_naive double precision NOT NULL,
    t_vs_naive     double precision NOT NULL,
    coverage_80    double precision NOT NULL CHECK (coverage_80 BETWEEN 0 AND 1),
    shift          jsonb            NOT NULL,
    drifted        boolean          NOT NULL,
    reason         text             NOT NULL,
    PRIMARY KEY (market, pair, interval, day)
);

-- migrate:down
DROP TABLE scores;
