-- migrate:up
CREATE TABLE forecasts (
    forecast_id    bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    market         text             NOT NULL,
    pair           text             NOT NULL,
    interval       text             NOT NULL,
    target_open_ms bigint           NOT NULL,
    model_version  integer          NOT NULL,
    as_of_ms       bigint           NOT NULL,
    last_close     double precision NOT NULL CHECK (last_close > 0),
    q05            double precision NOT NULL,
    q10            double precision NOT NULL,
    q25            double precision NOT NULL,
    q50            double precision NOT NULL,
    q75            double precision NOT NULL,
    q90            double precision NOT NULL,
    q95            double precision NOT NULL,
    made_at        timestamptz      NOT NULL DEFAULT now(),
    CHECK (q05 <= q10 AND q10 <= q25 AND q25 <= q50 AND q50 <= q75 AND q75 <= q90 AND q90 <= q95),
    UNIQUE (market, pair, interval, target_open_ms, model_version)
);

-- migrate:down
DROP TABLE forecasts;
