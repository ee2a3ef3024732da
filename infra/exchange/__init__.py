"""The replay exchange: recorded or simulated klines behind Binance's own REST paths.

    python -m infra.exchange --port 28900                       # simulated prices from a seed
    python -m infra.exchange --port 28900 --data DIR --state F  # recorded klines, moved to the present

It replaces only the exchange: production code uses it exactly as it uses Binance. Imports `make_us_rich` alone.

simulated.py  seeded simulation                           recorded.py  parquet files of a folder
universe.py   simulated pairs that are not served
server.py     HTTP endpoints and the clock                streams.py   candles pushed over a websocket
klines.py     rows of any interval from hourly candles    faults.py    faults that can be switched on
"""
