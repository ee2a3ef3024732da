from __future__ import annotations

import argparse
import sys
from pathlib import Path

import uvicorn

from infra.exchange.recorded import RecordingError, load
from infra.exchange.server import create_app
from infra.exchange.simulated import simulate
from infra.exchange.universe import UNIVERSE
from make_us_rich.core.arguments import argument, parse_pairs
from make_us_rich.core.settings import get_settings
from make_us_rich.core.times import current_ms


def main() -> None:
    parser = argparse.ArgumentParser(description="serve recorded or simulated klines at Binance's REST paths")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; whoever reaches it can set faults")
    parser.add_argument("--data", type=Path, help="folder of recorded klines; without it prices are simulated")
    parser.add_argument("--state", type=Path, help="file that keeps the time shift of a recording over restarts")
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulation")
    parser.add_argument(
        "--pairs",
        type=argument(parse_pairs),
        default=",".join(get_settings().pairs),
        help="pairs to simulate in addition to the built-in ones; default: MUR_PAIRS",
    )
    args = parser.parse_args()
    now_ms = current_ms()
    if args.data is None:
        additional = [pair.symbol for pair in args.pairs]
        app = create_app(simulate(now_ms, args.seed, additional, UNIVERSE), "SIMULATED")
    else:
        try:
            app = create_app(load(args.data, args.state, now_ms), "RECORDED")
        except RecordingError as error:
            sys.exit(f"error: {error}")
    uvicorn.run(
        app,
        host=args.host,
        port=args.port,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=1,  # a request that a timeout fault delays must not delay the shutdown
    )


if __name__ == "__main__":
    main()
