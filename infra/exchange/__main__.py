from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import uvicorn

from infra.exchange.recorded import RecordingError, load
from infra.exchange.server import create_app
from infra.exchange.simulated import simulate
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import get_settings


def main() -> None:
    parser = argparse.ArgumentParser(description="recorded or simulated klines behind Binance's REST paths")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="its faults can be set by anyone who reaches it")
    parser.add_argument("--data", type=Path, help="folder of recorded klines; without it the market is simulated")
    parser.add_argument("--state", type=Path, help="remembers the shift of a recording over restarts")
    parser.add_argument("--seed", type=int, default=0, help="of the simulated market")
    parser.add_argument(
        "--pairs",
        default=",".join(get_settings().pairs),
        help="simulated besides the ten built-in ones; default: MUR_PAIRS",
    )
    args = parser.parse_args()
    now_ms = time.time_ns() // 1_000_000
    if args.data is None:
        more = [Pair.parse(text).symbol for text in args.pairs.split(",")]
        app = create_app(simulate(now_ms, args.seed, more), "SIMULATED")
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
        timeout_graceful_shutdown=1,  # a request kept waiting by a fault must not keep the server alive
    )


if __name__ == "__main__":
    main()
