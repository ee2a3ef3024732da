"""A wrong argument of a program ends in its usage and the reason, not in a traceback."""

from __future__ import annotations

import importlib

import pytest

_TRAIN = ["ray_jobs.train_pairs", "--as-of-ms", "1780000000000"]
_BACKTEST = ["ray_jobs.backtest", "--from", "2026-01-01", "--to", "2026-03-01"]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ([*_TRAIN, "--pairs", "btc_usdt", "--interval", "7h"], "argument --interval: no model is trained on"),
        ([*_TRAIN, "--pairs", "BTCUSDT"], "argument --pairs: 'BTCUSDT' is not a pair"),
        ([*_BACKTEST, "--interval", "7h"], "argument --interval: unknown interval '7h'"),
        ([*_BACKTEST, "--pairs", "BTCUSDT"], "argument --pairs: 'BTCUSDT' is not a pair"),
        ([*_BACKTEST, "--every", "5 weeks"], "argument --every: '5 weeks' is not a duration"),
        (["infra.exchange.__main__", "--port", "1", "--pairs", "BTCUSDT"], "argument --pairs: 'BTCUSDT' is not a pair"),
        (["benchmarks.track_record", "--candles", ".", "--pairs", "x"], "argument --pairs: 'x' is not a pair"),
        (["benchmarks.forecast", "--pairs", "x"], "argument --pairs: 'x' is not a pair"),
    ],
)
def test_the_program_says_what_is_wrong(
    command: list[str], reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, *arguments = command
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.argv", [module, *arguments])

    with pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main()

    assert ended.value.code == 2
    assert reason in capsys.readouterr().err
