-- migrate:up
-- The last training of each pair. tried_as_of_ms: as_of of the newest run that tried to train it, failed or not;
-- trained_as_of_ms: of the newest that succeeded. run_seconds: what each pair of that run took, from the run's start to the
-- end of training.
CREATE TABLE trainings (
    market           text   NOT NULL,
    pair             text   NOT NULL,
    interval         text   NOT NULL,
    tried_as_of_ms   bigint NOT NULL,
    trained_as_of_ms bigint,
    run_seconds      double precision CHECK (run_seconds >= 0),
    PRIMARY KEY (market, pair, interval)
);

-- migrate:down
DROP TABLE trainings;
