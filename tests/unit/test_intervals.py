"""Models know hours only: every way to ask for another interval is refused before any work begins."""

from __future__ import annotations

import importlib

import pytest
from typer.testing import CliRunner

from make_us_rich.cli import app
from make_us_rich.core.errors import InputError

_JOB = ["--pairs", "btc_usdt", "--as-of-ms", "1700000000000"]
_BACKTEST = ["--pairs", "btc_usdt", "--from", "2022-01-01", "--to", "2022-06-30"]


@pytest.mark.parametrize(
    ("module", "words"), [("train_pairs", _JOB), ("train_foundation", _JOB), ("backtest", _BACKTEST)]
)
@pytest.mark.parametrize("interval", ["15m", "4h", "1d", "1 hour"])
def test_a_job_refuses_an_interval_that_is_not_an_hour(
    monkeypatch: pytest.MonkeyPatch, module: str, words: list[str], interval: str
) -> None:
    monkeypatch.setattr("sys.argv", [module, *words, "--interval", interval])

    with pytest.raises(InputError, match=f"'{interval}' is not supported.+use 1h") as caught:
        importlib.import_module(f"ray_jobs.{module}").main()
    assert caught.value.field == "interval"


def test_the_command_refuses_it_without_asking_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUR_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")

    done = CliRunner().invoke(app, ["train", "btc_usdt", "--interval", "4h"])

    assert isinstance(done.exception, InputError)
    assert "'4h' is not supported" in str(done.exception)
