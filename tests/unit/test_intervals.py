"""Which intervals the training jobs, the command and the backtest take."""

from __future__ import annotations

import importlib

import pytest
from typer.testing import CliRunner

from make_us_rich.cli import app
from make_us_rich.core.arguments import MISTAKE
from make_us_rich.core.errors import InputError

_JOB = ["--pairs", "btc_usdt", "--as-of-ms", "1700000000000"]
_BACKTEST = ["--pairs", "btc_usdt", "--from", "2022-01-01", "--to", "2022-06-30"]


@pytest.mark.parametrize("module", ["train_pairs", "train_foundation"])
@pytest.mark.parametrize("interval", ["5m", "1 hour"])
def test_a_job_refuses_an_interval_that_no_model_is_trained_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: str, interval: str
) -> None:
    monkeypatch.setattr("sys.argv", [module, *_JOB, "--interval", interval])

    with pytest.raises(SystemExit):
        importlib.import_module(f"ray_jobs.{module}").main()
    assert f"argument --interval: no model is trained on candles of '{interval}': use one of" in _error(capsys)


@pytest.mark.parametrize(
    ("interval", "problem"),
    [
        ("5m", "no model is trained on candles of '5m': use one of 15m, 1h, 4h, 1d"),
        ("15m", "the store has candles of 1h: name a folder of 15m"),
        ("1d", "a window must be whole candles of 1d"),
    ],
)
def test_a_backtest_refuses_an_interval_that_it_has_no_candles_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], interval: str, problem: str
) -> None:
    every = "1w" if interval == "1d" else "5w"
    monkeypatch.setattr("sys.argv", ["backtest", *_BACKTEST, "--interval", interval, "--every", every])

    with pytest.raises(SystemExit) as ended:
        importlib.import_module("ray_jobs.backtest").main()
    assert ended.value.code == MISTAKE
    assert problem in _error(capsys)


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_the_command_refuses_what_is_not_forecast_here_without_asking_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUR_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")

    done = CliRunner().invoke(app, ["train", "btc_usdt", "--interval", "4h"])

    assert isinstance(done.exception, InputError)
    assert "'4h' are not forecast here: use 1h" in str(done.exception)
