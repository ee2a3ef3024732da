-- migrate:up
-- What came of a served forecast, at each horizon of HORIZON_GRID: the close, and the pinball losses of the baselines'
-- forecasts as of the same time. NaN where the close is unknown. Only the first forecast that was recorded as of a time,
-- before the next close, has a row. complete: a later scoring can add nothing.
CREATE TABLE outcomes (
    forecast_id  bigint             PRIMARY KEY REFERENCES forecasts ON DELETE CASCADE,
    closes       double precision[] NOT NULL,
    naive_losses real[]             NOT NULL,
    ewma_losses  real[]             NOT NULL,
    garch_losses real[]             NOT NULL,
    complete     boolean            NOT NULL
);

-- migrate:down
DROP TABLE outcomes;
