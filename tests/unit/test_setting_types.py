"""Every setting refuses hostile values by its name, and shows no secret."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from pydantic import SecretStr

from dash_app.app import create_app
from make_us_rich.core.errors import SettingsError
from make_us_rich.core.settings import Settings, read_settings
from make_us_rich.database.pool import Database
from make_us_rich.embedded.demo import start_stack
from make_us_rich.embedded.stack_config import new_stack_config, stack_home
from make_us_rich.market.object_store import ObjectStore

HIDDEN = "hunter2-hunter2"
NUMBERS = ("1e400", "-1e400", "nan", "100000000000000000000000000", "-5", "1_0", "", "x", "0x10", "9" * 5000, "٣٤x")
ADDRESSES = (
    "minio",
    "127.0.0.1:8000",
    "s3://host",
    "ftp://host",
    "http://",
    "http:///path",
    "http://host:0",
    "http://host:99999",
    "http://host:-1",
    "http://host:port",
    "http://a b",
    "http://a\nb",
    "http://[::1",
    "javascript:alert(1)",
    f"http://me:{HIDDEN}@host",
    f"http://host?key={HIDDEN}",
    f"http://host#{HIDDEN}",
)
LOGINS = ("", "a\nb", "a:b", "x" * 300, "-", "a b\tc")
HOSTILE_KINDS = {int: NUMBERS, float: NUMBERS, bool: ("", "maybe", "2", "nan")}
POSTGRES = (
    f"mysql://app:{HIDDEN}@host/db",
    f"app:{HIDDEN}@host/db",
    f"postgresql://app:{HIDDEN}@host",
    f"postgresql://app:{HIDDEN}@/db",
    f"postgresql://app:{HIDDEN}@host:99999/db",
    f"postgresql://app:{HIDDEN}@host:port/db",
    f"postgresql://app:{HIDDEN}@x@host/db",
    f"postgresql://app:{HIDDEN}/x@host/db",
    f"postgresql://app:{HIDDEN}#x@host/db",
    f"postgresql://app:{HIDDEN}?x@host/db",
    f"postgresql://app:{HIDDEN}%zz@host/db",
    f"postgresql://app:{HIDDEN} x@host/db",
    f"postgresql://app:{HIDDEN}@host/db/more",
    f"host=host password={HIDDEN}",
)
OTHERS = {
    "environment": ("", "Production ", "staging"),
    "pairs": ("", "btc", "btc_usdt,<script>"),
    "pooled_pairs": ("btc", "doge_usdt"),
    "intervals": ("", "7m", "1h,5m"),
    "market": ("", "nyse"),
    "s3_region": LOGINS,
    "mlflow_user": LOGINS,
    "airflow_user": LOGINS,
    "architecture": (*LOGINS, "../lstm"),
    "candles_bucket": (*LOGINS, "A", "a/b", "ab_c", "..", "a" * 64),
    "mlflow_bucket": (*LOGINS, "A", "a/b", "ab_c", "..", "a" * 64),
    "cache_folder": ("", "a\nb", "x" * 2000),
    "gateway_replicas": (*NUMBERS, "0", "0-4", "4-1", "1-", "-4", "1-4-6", "1 - 4", "1000", "1-1e3", "1.5"),
    "cors_origins": ("host", "https://host/path", f"https://me:{HIDDEN}@host", "https://a;b", "null"),
    "database_url": POSTGRES,
    "discord_webhook_url": (*ADDRESSES[:14], f"https://me:{HIDDEN}@host/x"),
}
WITHOUT_PATH = {"s3_endpoint_url", "api_url", "dashboard_url", "public_api_url"}
MAY_BE_EMPTY = {"exchange_stream_url", "public_api_url", "public_mlflow_url", "public_airflow_url"}


def _hostile(name: str) -> tuple[str, ...]:
    if name in OTHERS:
        return OTHERS[name]
    kind = Settings.model_fields[name].annotation
    if kind is SecretStr:
        return (f"{HIDDEN}\nX-Injected: 1", f"{HIDDEN}\x00", f"{HIDDEN}\x1b[2J")
    if kind in HOSTILE_KINDS:
        return HOSTILE_KINDS[kind]
    assert name.endswith("_url"), f"{name}: which values must it refuse?"
    return ADDRESSES + (() if name in MAY_BE_EMPTY else ("",)) + (("http://host/path",) if name in WITHOUT_PATH else ())


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_refuses_what_it_cannot_be(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    variable = f"MUR_{name.upper()}"
    for value in _hostile(name):
        if "\x00" in value:
            with pytest.raises(SettingsError, match=variable) as caught:
                _read(name, value)
        else:
            monkeypatch.setenv(variable, value)
            with pytest.raises(SettingsError, match=variable) as caught:
                read_settings()
            monkeypatch.delenv(variable)
        assert HIDDEN not in str(caught.value), value
        assert len(str(caught.value)) < 600
        if value and Settings.model_fields[name].annotation is not SecretStr:
            assert "it is" in str(caught.value)


def _read(name: str, value: str) -> None:
    """Read a value that no environment can hold, as a mounted file can."""
    from pydantic import ValidationError

    from make_us_rich.core.setting_types import explain

    try:
        Settings(**{name: value})  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError(explain(Settings, error)) from None


@pytest.mark.parametrize(
    "name", [name for name, field in Settings.model_fields.items() if field.annotation in (int, float)]
)
def test_every_number_has_a_greatest_value(name: str) -> None:
    limits = [limit.le for limit in Settings.model_fields[name].metadata if hasattr(limit, "le")]
    assert limits, f"{name} has no `le`"
    assert math.isfinite(limits[0])


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [
        ("s3_endpoint_url", "HTTP://127.0.0.1:9000/", "http://127.0.0.1:9000"),
        ("s3_endpoint_url", "http://[::1]:9000", "http://[::1]:9000"),
        ("s3_endpoint_url", "http://my_minio:9000", "http://my_minio:9000"),
        ("ray_url", " http://ray-head:8265/\r", "http://ray-head:8265"),
        ("public_airflow_url", "https://host/airflow/", "https://host/airflow"),
        ("exchange_stream_url", "wss://data-stream.binance.vision/", "wss://data-stream.binance.vision"),
        ("cors_origins", "https://a.example, https://b.example:8443", ("https://a.example", "https://b.example:8443")),
        ("gateway_replicas", "2", "2"),
        ("gateway_replicas", " 1-4 ", "1-4"),
        ("ray_token", "a-token\n", "a-token"),
        ("airflow_password", "pässword with a space", "pässword with a space"),
        ("database_url", "postgresql://app:p%40ss@host/db", "postgresql://app:p%40ss@host/db"),
        ("database_url", "postgres://app:x@a:1,b:2/db?sslmode=require", "postgres://app:x@a:1,b:2/db?sslmode=require"),
        ("discord_webhook_url", "https://discord.com/api/webhooks/1/x?thread_id=2", None),
    ],
)
def test_what_people_write_is_read(
    monkeypatch: pytest.MonkeyPatch, name: str, given: str, read: str | tuple[str, ...] | None
) -> None:
    monkeypatch.setenv(f"MUR_{name.upper()}", given)

    value = getattr(read_settings(), name)

    plain = value.get_secret_value() if isinstance(value, SecretStr) else value
    assert plain == (given if read is None else read)


def test_an_empty_secret_is_named_by_the_component_that_needs_it() -> None:
    with pytest.raises(SettingsError, match="MUR_SECRET_KEY is empty"):
        create_app(Settings(secret_key=""))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="MUR_DATABASE_URL is empty"):
        Database.from_settings(Settings(database_url=""))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="MUR_S3_ACCESS_KEY is empty"):
        ObjectStore.from_settings(Settings(s3_access_key=""))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["-5", "60000", "10^26", "1e400", "", "x", "100000000000000000000000000"])
def test_a_port_base_without_room_for_every_port_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MUR_PORT_BASE", value)

    with pytest.raises(SettingsError, match="MUR_PORT_BASE"):
        new_stack_config("simulated")


def test_a_stack_is_not_started_with_a_wrong_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUR_STACK_HOME", str(tmp_path))
    monkeypatch.setenv("MUR_TRAIN_WORKERS", "many")

    with pytest.raises(SettingsError, match=r"MUR_TRAIN_WORKERS: .*'many'"):
        start_stack(live=False, data=None)


@pytest.mark.parametrize("value", ["", " ", "a\nb"])
def test_an_odd_home_of_the_stack_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MUR_STACK_HOME", value)

    with pytest.raises(SettingsError, match="MUR_STACK_HOME"):
        stack_home()
