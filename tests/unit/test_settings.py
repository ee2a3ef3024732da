from __future__ import annotations

import random
import string
from collections.abc import Iterator

import pytest

from make_us_rich.core.errors import SettingsError
from make_us_rich.core.secret_strength import secret_fault
from make_us_rich.core.settings import get_settings


@pytest.fixture(autouse=True)
def _settings_are_read_again() -> Iterator[None]:
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def test_pairs_are_read_from_a_comma_separated_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUR_PAIRS", "eth_usdt, sol_usdt")

    assert get_settings().pairs == ("eth_usdt", "sol_usdt")


@pytest.mark.parametrize(
    ("variable", "value", "hint"),
    [
        ("MUR_PAIRS", "btc", "base_quote"),
        ("MUR_PAIRS", " , ", "at least one pair"),
        ("MUR_INTERVALS", "7m", "use one of 15m, 1h, 4h, 1d"),
        ("MUR_INTERVALS", "1h,5m", "use one of 15m, 1h, 4h, 1d"),
        ("MUR_INTERVALS", "", "at least one interval"),
        ("MUR_MARKET", "nyse", "binance"),
        ("MUR_TRAINING_MINUTES", "0", "greater than or equal to 1"),
        ("MUR_TRAINING_MINUTES", "90", "less than or equal to 40"),
        ("MUR_TRAINING_MINUTES", "half an hour", "valid number"),
    ],
)
def test_a_bad_variable_is_named_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, hint: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsError, match=variable) as caught:
        get_settings()

    assert hint in str(caught.value)


def test_production_refuses_a_development_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUR_ENVIRONMENT", "production")

    with pytest.raises(SettingsError, match="MUR_SECRET_KEY"):
        get_settings()


_STRONG = "kV7w-0pQz3mR8sTy"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MUR_SECRET_KEY", "x"),
        ("MUR_SECRET_KEY", "change-me"),
        ("MUR_SECRET_KEY", "please-Change-Me-to-something-long"),
        ("MUR_SECRET_KEY", "aaaaaaaaaaaaaaaaaaaaaaaa"),
        ("MUR_SERVICE_TOKEN", "mur_change-me"),
        ("MUR_RAY_TOKEN", "short"),
        ("MUR_S3_SECRET_KEY", "password1234"),
        ("MUR_AIRFLOW_PASSWORD", "admin"),
        ("MUR_SECRET_KEY", "123456789012"),
        ("MUR_SECRET_KEY", "0123456789abcdef0123456789abcdef"),
        ("MUR_MLFLOW_PASSWORD", "qwertyuiopas"),
        ("MUR_RAY_TOKEN", "a1b2c3d4e5f6"),
        ("MUR_SERVICE_TOKEN", "hunter2hunter2"),
        ("MUR_DASHBOARD_TOKEN", "2026-11-25-2026"),
        ("MUR_S3_SECRET_KEY", "minioadmin123"),
        ("MUR_DATABASE_URL", "postgresql://app:postgres2026@postgres/make_us_rich"),
        ("MUR_DATABASE_URL", "postgresql://app:change-me@postgres/make_us_rich"),
        ("MUR_DATABASE_URL", "postgresql://app:x@postgres/make_us_rich"),
    ],
)
def test_production_refuses_a_weak_secret(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    names = ("MUR_SECRET_KEY", "MUR_S3_ACCESS_KEY", "MUR_S3_SECRET_KEY", "MUR_MLFLOW_PASSWORD")
    strong = dict.fromkeys(names, _STRONG)
    database = {"MUR_DATABASE_URL": f"postgresql://app:{_STRONG}@postgres/make_us_rich"}
    for name, given in {"MUR_ENVIRONMENT": "production", **strong, **database}.items():
        monkeypatch.setenv(name, given)
    assert get_settings().environment == "production"
    get_settings.cache_clear()
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsError, match=f"{variable} .*set a long random one"):
        get_settings()


@pytest.mark.parametrize("length", [12, 16, 32, 200])
def test_a_random_secret_is_strong(length: int) -> None:
    letters = random.Random(length)
    for alphabet in (string.ascii_letters + string.digits, "0123456789abcdef" if length > 12 else string.ascii_letters):
        assert secret_fault("".join(letters.choices(alphabet, k=length))) == ""


def test_a_secret_does_not_show_in_the_settings_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUR_SERVICE_TOKEN", "mur_do-not-show")

    assert "do-not-show" not in repr(get_settings())
