"""The ONNX graph that is a whole forecasting model: its contract, and the checks before it serves.

Inputs, float32 [batch, context_length, 6], raw and oldest first, columns as in COLUMNS:
    candles    the pair's own closed candles
    reference  BTC's candles of the same times (the pair's own, if it is BTC)
Outputs, float32 [batch, horizons, 7], one row for each horizon, 1 candle ahead first, and one column for each level of
QUANTILE_LEVELS, ascending:
    quantiles    price of the close at that horizon, quote currency
    log_returns  the same as ln(that close / last close)
The distance between two quantiles never shrinks with the horizon. Models of the first contract have one horizon and
outputs [batch, 7]; they keep being served.

Features, scaling and calibration are nodes of the graph, so a caller prepares these two arrays alone.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from make_us_rich.core.distribution import DEFAULT_TAIL
from make_us_rich.core.errors import BadModel, NotEnoughHistory
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.documents import HORIZONS, QUANTILE_LEVELS
from make_us_rich.forecasting.graph_limits import check_graph
from make_us_rich.market.candles import Candles

COLUMN_UNITS = {
    "open": "quote currency",
    "high": "quote currency",
    "low": "quote currency",
    "close": "quote currency",
    "volume": "base currency",
    "hour_of_week": "hours from Monday 00:00 UTC to the candle's opening",
}
COLUMNS = tuple(COLUMN_UNITS)
DESCRIPTION = (
    "Inputs, float32 [batch, candles, 6], raw closed candles without a gap, oldest first: `candles` of the pair and "
    "`reference` of bitcoin at the same times. Columns: "
    + ", ".join(f"{name} ({unit})" for name, unit in COLUMN_UNITS.items())
    + ". Outputs, float32 [batch, horizons, 7], 1 candle ahead first, by quantile level "
    + ", ".join(f"{level:g}" for level in QUANTILE_LEVELS)
    + ": `quantiles` (price of the close, quote currency) and `log_returns` (ln of that close over the last one)."
)
"""What a graph reads and returns: the `doc_string` of each export, and the description of its version in MLflow."""

GraphInputs = dict[str, NDArray[np.float32]]
"""`candles` and `reference`."""

# Keys of the graph's metadata_props; all values are text.
META_PAIR = "make_us_rich.pair"
META_INTERVAL = "make_us_rich.interval"
META_CONTEXT_LENGTH = "make_us_rich.context_length"
META_ARCHITECTURE = "make_us_rich.architecture"
META_AS_OF_MS = "make_us_rich.as_of_ms"
META_COLUMNS = "make_us_rich.columns"  # JSON {column: unit}, in order; absent in old models
META_TAILS = "make_us_rich.tails"  # JSON [horizons][2]: scale and shape, see core/distribution.py; absent in old models

_HOURS_A_WEEK = 168
_MONDAY_OFFSET_HOURS = 72  # 1970-01-01 was a Thursday
# A close beyond half or twice the last one is a broken model, not a forecast, at every horizon and interval we train.
_SANE_BAND = (0.5, 2.0)
_LARGEST_SCALE = 100.0  # distances between the median and q05 or q95; fitted ones are around 0.3
_SHAPE_LIMIT = 0.5  # from there on the standard deviation is infinite
_ROUNDING = 1e-6  # of float32 prices, relative
_LONGEST_CONTEXT = 10_000  # candles; the longest of our models is 1,368
# Far above the tenths of a second and the milliseconds that they take, also on a busy machine.
_LOAD_LIMIT_S = 30.0
_RUN_LIMIT_S = 5.0
_MEMORY_LIMIT = 512 * 2**20  # bytes, of all models of a process; one of ours takes less than 1 MB


@dataclass(frozen=True)
class OnnxModel:
    """A loaded graph. tails: [horizons, 2], scale and shape; see core/distribution.py."""

    session: onnxruntime.InferenceSession
    context_length: int
    tails: NDArray[np.float64]

    @classmethod
    def load(cls, graph: bytes, name: str) -> OnnxModel:
        """Load a graph that is registered as `name`, such as btc_usdt_1h.

        Raises BadModel for a graph that is unreadable, exceeds the limits of graph_limits.py, takes too long or too
        much memory, refers to another file, was made for another name, or breaks the contract.
        """
        check_graph(graph)
        try:
            session = _open_limited(graph)
            metadata = session.get_modelmeta().custom_metadata_map
            made_for = f"{metadata[META_PAIR]}_{metadata[META_INTERVAL]}"
            context_length = int(metadata[META_CONTEXT_LENGTH])
            tails = np.array(json.loads(metadata.get(META_TAILS, "null")) or [DEFAULT_TAIL], dtype=np.float64)
            horizons = _horizons(session)
        except BadModel:
            raise
        except KeyError as error:
            raise BadModel(f"the graph's metadata lacks {error}") from None
        except Exception as error:  # onnxruntime's errors share no narrower base
            raise BadModel(f"the graph does not load: {error}") from error
        if made_for != name:
            raise BadModel(f"the graph was made for {made_for}, not for {name}")
        if not 1 <= context_length <= _LONGEST_CONTEXT:
            raise BadModel(f"the graph reads {context_length} candles: it must be 1 to {_LONGEST_CONTEXT}")
        if not 1 <= horizons <= HORIZONS:
            raise BadModel(f"the graph has {horizons} horizons: it must be 1 to {HORIZONS}")
        if tails.shape != (horizons, 2):
            raise BadModel(f"the graph has {horizons} horizons and tails of shape {tails.shape}")
        _check_tails(tails)
        return cls(session, context_length, tails)

    @property
    def horizons(self) -> int:
        """How many candles ahead the model forecasts."""
        return len(self.tails)

    def quantiles(self, candles: Candles, reference: Candles) -> NDArray[np.float64]:
        """Return the quantiles of the coming closes, [horizons, 7], in quote currency, at QUANTILE_LEVELS.

        Raises BadModel when the graph fails, or `check_quantiles` refuses its output.
        """
        inputs = {
            "candles": input_array(candles, self.context_length),
            "reference": input_array(reference, self.context_length),
        }
        run = onnxruntime.RunOptions()
        try:
            with _after(_RUN_LIMIT_S, lambda: setattr(run, "terminate", True)):
                output: NDArray[np.float32] = self.session.run(["quantiles"], inputs, run)[0]
            if output.dtype != np.float32:
                raise BadModel(f"its quantiles are {output.dtype}, not float32")
            prices = output.astype(np.float64).reshape(-1, output.shape[-1])
        except Exception as error:  # as above
            reason = f"it took longer than {_RUN_LIMIT_S:g} s" if run.terminate else error
            raise BadModel(f"the graph does not run: {reason}") from error
        if prices.shape != (self.horizons, len(QUANTILE_LEVELS)):
            raise BadModel(f"{prices.shape} quantiles instead of {(self.horizons, len(QUANTILE_LEVELS))}")
        check_quantiles(prices, float(candles.close[-1]))
        return prices


def hour_of_week(open_time_ms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the hour of the week: 0 for Monday 00:00 UTC to 167 for Sunday 23:00; 13.25 for Monday 13:15."""
    hours: NDArray[np.float64] = (open_time_ms / HOUR_MS + _MONDAY_OFFSET_HOURS) % _HOURS_A_WEEK
    return hours


def candle_array(candles: Candles) -> NDArray[np.float32]:
    """Return `n` candles as an array [n, 6] with the columns of COLUMNS."""
    columns = (candles.open, candles.high, candles.low, candles.close, candles.volume)
    return np.stack([*columns, hour_of_week(candles.open_time_ms)], axis=-1).astype(np.float32)


def input_array(candles: Candles, context_length: int) -> NDArray[np.float32]:
    """Return the newest `context_length` candles as float32 [1, context_length, 6]. Raises NotEnoughHistory."""
    if len(candles) < context_length:
        raise NotEnoughHistory(f"{len(candles)} candles given, the model needs {context_length}: send more history")
    return candle_array(candles[len(candles) - context_length :])[None]


def check_quantiles(prices: NDArray[np.float64], last_close: float) -> None:
    """Raise BadModel unless the quantiles [horizons, 7] are finite, ascending, near the last close and ever wider."""
    low, high = (factor * last_close for factor in _SANE_BAND)
    with np.errstate(all="ignore"):  # of what is not finite
        increase = (np.diff(prices, axis=1) >= 0).all(axis=1) & (prices[:, 0] < prices[:, -1])
        near = (prices[:, 0] >= low) & (prices[:, -1] <= high)
        widths = np.log(prices[:, -1] / prices[:, 0])
        wider = np.diff(widths, prepend=0.0) >= -_ROUNDING
    for holds, problem in (
        (np.isfinite(prices).all(axis=1), "are not finite"),
        (increase, "do not increase"),
        (near, f"are too far from the last close {last_close}"),
        (wider, f"are closer together than those 1 candle before: {widths.tolist()}"),
    ):
        if not holds.all():
            row = int(np.argmin(holds))
            raise BadModel(f"quantiles {row + 1} candles ahead {problem}: {prices[row].tolist()}")


def open_session(graph: bytes) -> onnxruntime.InferenceSession:
    """Open a graph on one thread. Raises onnxruntime's errors, which share no base class below Exception.

    A graph may refer to weights in another file, which ONNX Runtime would read from the working directory. The folder
    of such files is set to a path that can hold none, so that a graph cannot read files of this machine.
    """
    return onnxruntime.InferenceSession(graph, _session_options(), providers=["CPUExecutionProvider"])


def _session_options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # more threads only increase the tail latency
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    options.add_session_config_entry("session.load_model_format", "ONNX")  # `check_graph` reads no other
    return options


def _open_limited(graph: bytes) -> onnxruntime.InferenceSession:
    """Open a graph of a stranger: within a time, and so that all such graphs share a limited memory."""
    _limit_memory()
    options = _session_options()
    options.add_session_config_entry("session.use_env_allocators", "1")
    with _after(_LOAD_LIMIT_S, lambda: options.set_load_cancellation_flag(True)):
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


@cache
def _limit_memory() -> None:
    """Give ONNX Runtime the memory of the sessions that use the allocator of the process. Cached: once a process."""
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    exactly_as_asked = 1
    arena = onnxruntime.OrtArenaCfg({"max_mem": _MEMORY_LIMIT, "arena_extend_strategy": exactly_as_asked})
    onnxruntime.create_and_register_allocator(memory, arena)


@contextmanager
def _after(seconds: float, stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` if the block takes longer."""
    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _horizons(session: onnxruntime.InferenceSession) -> int:
    """Return the number of horizons of a graph; 1 for the first contract, whose outputs have no such dimension.

    Raises BadModel when the graph leaves it open.
    """
    shape = session.get_outputs()[0].shape
    if len(shape) != 3:
        return 1
    if not isinstance(shape[1], int):
        raise BadModel(f"the graph does not say its number of horizons, the second dimension of its outputs: {shape}")
    return shape[1]


def _check_tails(tails: NDArray[np.float64]) -> None:
    """Raise BadModel unless the tails [horizons, 2] describe a distribution with a mean and a standard deviation."""
    scale, shape = tails.T
    holds = (scale > 0) & (scale <= _LARGEST_SCALE) & (shape >= 0) & (shape < _SHAPE_LIMIT)  # False for NaN
    if not holds.all():
        row = int(np.argmin(holds))
        raise BadModel(
            f"the tails {row + 1} candles ahead are {tails[row].tolist()}: the scale must be above 0 and at most "
            f"{_LARGEST_SCALE:g}, the shape at least 0 and below {_SHAPE_LIMIT:g}"
        )
