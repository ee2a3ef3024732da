"""The replay exchange: recorded or simulated klines behind Binance's own REST paths.

    python -m infra.exchange --port 28900                       # a seeded simulated market
    python -m infra.exchange --port 28900 --data DIR --state F  # recorded klines, as if they happened now

It stands in for the exchange alone: production code talks to it exactly as it talks to Binance.

simulated.py  the seeded market       recorded.py  the parquet files of a folder
klines.py     Binance's row format    faults.py    what can be made to go wrong
server.py     the HTTP side
"""
