"""The foundation that ships with the package: its files fit the code, and its card tells the truth about them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.foundation import NEW_PAIRS, PAGE, read, score
from infra.exchange.simulated import simulate
from make_us_rich.core.errors import BadModel
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import BITCOIN
from make_us_rich.forecasting.architectures import TrainingConfig, from_npz
from make_us_rich.forecasting.dataset import prepare
from make_us_rich.forecasting.export import metadata_of, to_onnx
from make_us_rich.forecasting.onnx_model import META_AS_OF_MS
from make_us_rich.forecasting.recipe import evaluate_model
from make_us_rich.forecasting.training import TrainingTask
from make_us_rich.registry import shipped
from make_us_rich.registry.model_card import page
from tests.support.recorded_data import recorded

AS_OF_MS = Interval.H1.last_close_ms(1_790_000_000_000)
MAKE_AGAIN = f"make it again with `{shipped.MAKE_AGAIN} CANDLES=DIR` (benchmarks/foundation.py)"


def test_the_files_fit_the_code_and_belong_together() -> None:
    found = shipped.find("binance", Interval.H1)
    assert found is not None
    card = found.card
    config = TrainingConfig.of(Interval.H1)
    try:
        network = from_npz(found.weights, config, card.as_of_ms)
    except BadModel as error:
        pytest.fail(f"the shipped foundation does not fit the code any more ({error}): {MAKE_AGAIN}")
    metadata = metadata_of(found.graph)
    assert metadata[META_AS_OF_MS] == card.tags["as_of_ms"] == str(card.as_of_ms)
    with pytest.raises(BadModel, match="have seen candles up to"):
        from_npz(found.weights, config, card.as_of_ms - 1)

    simulated = simulate(AS_OF_MS)["BTCUSDT"]
    bitcoin = simulated[simulated.open_time_ms < AS_OF_MS][-3000:]
    prepared = prepare(bitcoin, bitcoin, TrainingTask(AS_OF_MS, replace(config, validation=200, holdout=200)))
    ours = to_onnx(network, config, metadata)
    try:
        theirs = evaluate_model(found.graph, prepared, interval=Interval.H1)
    except Exception as error:  # the graph's inputs are others now; onnxruntime's errors share no narrower base
        pytest.fail(f"the shipped graph cannot forecast ({error}): {MAKE_AGAIN}")
    np.testing.assert_allclose(
        theirs.quantiles,
        evaluate_model(ours, prepared, interval=Interval.H1).quantiles,
        rtol=1e-3,
        atol=1e-5,
        err_msg=MAKE_AGAIN,
    )
    assert shipped.digest(found.weights, found.graph) == card.digest, MAKE_AGAIN
    assert PAGE.read_text() == page(card), MAKE_AGAIN
    assert sum(path.stat().st_size for path in shipped.FOLDER.iterdir()) <= 300_000


def test_candles_that_were_moved_in_time_get_no_foundation_that_may_have_seen_them() -> None:
    assert shipped.find("recorded", Interval.H1) is None
    assert shipped.find("simulated", Interval.H1) is not None
    assert shipped.find("binance", Interval.D1) is None


@pytest.mark.recorded("klines-1h", "klines-1h-more")
@pytest.mark.slow
def test_the_scores_of_new_pairs_are_those_of_the_shipped_graph() -> None:
    found = shipped.find("binance", Interval.H1)
    assert found is not None
    folders = [recorded("klines-1h"), recorded("klines-1h-more")]
    candles = read(folders, [BITCOIN, *NEW_PAIRS])
    measured = score(found.graph, candles, NEW_PAIRS, learned=False, baselines=["naive"])
    written = [item for item in found.card.scores if not item.learned]
    for ours, theirs in zip(measured, written, strict=True):
        # not the skills: the baselines may have another definition since the card was made
        assert ours.coverage_80 == pytest.approx(theirs.coverage_80, abs=5e-3), MAKE_AGAIN
        assert (ours.horizon, ours.pairs, ours.windows) == (theirs.horizon, theirs.pairs, theirs.windows)
