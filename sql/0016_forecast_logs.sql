-- migrate:up
-- The log of each UTC day's live forecasts, as it was published: never changed afterwards. chain is a hash of this day's
-- hashes and of `previous`, the chain of the day before, so that no earlier day can be replaced unnoticed.
CREATE TABLE forecast_logs (
    market         text        NOT NULL,
    day            date        NOT NULL,
    forecasts      integer     NOT NULL,
    csv            bytea       NOT NULL, -- gzip
    parquet        bytea       NOT NULL,
    csv_sha256     text        NOT NULL, -- of the plain file
    parquet_sha256 text        NOT NULL,
    previous       text        NOT NULL,
    chain          text        NOT NULL,
    published_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (market, day)
);

-- migrate:down
DROP TABLE forecast_logs;
