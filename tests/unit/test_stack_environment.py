"""What the caller's shell has set reaches the programs of the stack as a whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from urllib.request import getproxies_environment, proxy_bypass_environment

import httpx
import pytest

from make_us_rich.client import Client
from make_us_rich.core.proxies import except_loopback, proxy_variables
from make_us_rich.embedded import components
from make_us_rich.embedded.environment import forget_foreign_variables, load_or_create_secrets, stack_environment
from make_us_rich.embedded.stack_config import Market, StackConfig
from make_us_rich.embedded.stores import PostgresServer

PROXY = "http://proxy.example:3128"
FOREIGN = (
    "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE", "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION", "AWS_CONFIG_FILE", "PGHOST", "PGSSLMODE", "PGOPTIONS", "PGSERVICE", "PGPASSFILE", "PGDATA",
    "AIRFLOW_HOME", "AIRFLOW_CONFIG", "AIRFLOW__CORE__EXECUTOR", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    "AIRFLOW__CORE__PLUGINS_FOLDER", "AIRFLOW_CONN_RAY_DEFAULT", "AIRFLOW__LOGGING__REMOTE_LOGGING", "RAY_ADDRESS",
    "RAY_AUTH_TOKEN", "RAY_TMPDIR", "RAY_RUNTIME_ENV_HOOK", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_S3_IGNORE_TLS", "MLFLOW_EXPERIMENT_NAME", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONWARNINGS",
    "PYTHONDONTWRITEBYTECODE", "TMPDIR", "LANG", "LC_ALL", "LC_NUMERIC", "LANGUAGE", "WEB_CONCURRENCY",
    "FORWARDED_ALLOW_IPS", "OTEL_EXPORTER_OTLP_ENDPOINT", "SUPERVISOR_SERVER_URL", "WEED_JWT_SIGNING_KEY",
)  # fmt: skip


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of every program of a stack that a shell with all of this starts."""
    hostile = dict.fromkeys(FOREIGN, "hostile") | {"HTTP_PROXY": PROXY, "https_proxy": PROXY, "ALL_PROXY": "socks5://x"}
    monkeypatch.setattr(os, "environ", {"PATH": "/bin", "HOME": "/home/me", "NO_PROXY": "intra.example", **hostile})
    secrets = load_or_create_secrets(tmp_path / "secrets.json")
    return stack_environment(StackConfig("simulated", tmp_path), secrets)


def test_no_variable_of_other_programs_comes_from_the_shell(environment: dict[str, str]) -> None:
    assert [key for key, value in environment.items() if "hostile" in value] == []
    assert environment["HOME"] == "/home/me"
    assert environment["AWS_CONFIG_FILE"] == environment["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
    assert environment["TMPDIR"] == "/tmp"
    assert environment["LC_ALL"] == "C.UTF-8"


def test_every_program_gets_that_environment_and_no_other(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs differ only in what is withheld from them."""
    monkeypatch.setattr(
        components.stores, "prepare_postgres", lambda *_, **__: PostgresServer(["postgres"], None, "postgresql://")
    )
    config = StackConfig("simulated", tmp_path)
    config.make_runtime_folder()
    programs = [one.program for one in components.components(config, load_or_create_secrets(tmp_path / "secrets.json"))]

    assert len(programs) == 13
    for program in programs:
        assert not program.command[0].startswith("env"), program.name
        assert not any("hostile" in argument or PROXY in argument for argument in program.command)
        assert set(program.withheld) <= set(environment)


@pytest.mark.parametrize(("market", "played"), [("simulated", {"exchange"}), ("binance", set())])
def test_no_run_begins_before_what_it_uses_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, market: Market, played: set[str]
) -> None:
    """The scheduler begins runs at once; the first start of a stack must post no failure of theirs."""
    monkeypatch.setattr(
        components.stores, "prepare_postgres", lambda *_, **__: PostgresServer(["postgres"], None, "postgresql://")
    )
    config = StackConfig(market, tmp_path)
    config.make_runtime_folder()
    secrets = load_or_create_secrets(tmp_path / "secrets.json")
    items = [*components.components(config, secrets), *components.setup_tasks(config, secrets, {})]
    depends_on = {item.name: item.depends_on for item in items}

    (scheduler,) = (item for item in items if item.name == "airflow-scheduler")
    assert {"ray", "mlflow", "buckets", "accounts", "discord", *played} <= set(scheduler.depends_on) <= set(depends_on)
    assert components.required_by("training", depends_on) >= {"postgres", "s3", *scheduler.depends_on}


def test_the_exchange_is_asked_through_the_proxy_and_this_machine_is_not(environment: dict[str, str]) -> None:
    assert "ALL_PROXY" not in environment
    proxies = getproxies_environment_of(environment)
    assert proxies["http"] == proxies["https"] == PROXY
    assert not proxy_bypass_environment("api.binance.com", proxies)
    for host in ("127.0.0.1", "127.0.0.1:28000", "localhost", "intra.example"):
        assert proxy_bypass_environment(host, proxies), host


def getproxies_environment_of(environment: dict[str, str]) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "environ", environment)
        return getproxies_environment()


@pytest.mark.parametrize("given", [{}, {"NO_PROXY": "*"}, {"no_proxy": "a.example, b.example"}])
def test_hosts_without_a_proxy_stay_so(given: dict[str, str]) -> None:
    kept, _ = proxy_variables({"HTTPS_PROXY": PROXY, **given})

    assert kept["no_proxy"] == kept["NO_PROXY"]
    if given.get("NO_PROXY") == "*":
        assert kept["no_proxy"] == "*"
    else:
        assert set(kept["no_proxy"].split(",")) >= {"localhost", "127.0.0.1", "::1"}
        assert ("a.example" in kept["no_proxy"]) is bool(given)


@pytest.mark.parametrize("address", ["socks5h://127.0.0.1:9050", "ftp://proxy", "company proxy: 3128"])
def test_a_proxy_that_no_client_can_use_is_left_out_by_its_name(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(os, "environ", {"all_proxy": address, "HTTP_PROXY": "proxy.example:3128"})

    assert except_loopback() == ["all_proxy"]
    assert os.environ["HTTP_PROXY"] == "proxy.example:3128"
    httpx.Client().close()  # raises for SOCKS


def test_a_client_of_this_machine_does_not_show_its_token_to_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY, "ALL_PROXY": PROXY})
    with Client("http://127.0.0.1:28000", "mur_token") as client:
        http = client._http
        for url in ("http://127.0.0.1:28000/v1/pairs", "https://localhost/v1/pairs", "http://[::1]:28000/v1/pairs"):
            assert http._transport_for_url(httpx.URL(url)) is http._transport
        assert http._transport_for_url(httpx.URL("https://api.example/v1/pairs")) is not http._transport


def test_a_setting_for_a_program_of_the_stack_has_a_name_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUR_STACK_ENV_AIRFLOW__CORE__PARALLELISM", "8")
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "16")
    made = stack_environment(StackConfig("simulated", tmp_path), load_or_create_secrets(tmp_path / "secrets.json"))

    assert made["AIRFLOW__CORE__PARALLELISM"] == "8"
    assert not [key for key in made if key.startswith("MUR_STACK_ENV_")]


def test_a_shell_with_the_settings_of_another_installation_does_not_mix_the_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ["MUR_DATABASE_URL", "MUR_S3_ENDPOINT_URL", "MUR_S3_SECRET_KEY", "MUR_MLFLOW_PASSWORD", "MUR_SERVICE_TOKEN"]
    monkeypatch.setattr(os, "environ", dict.fromkeys(own, "another") | {"MUR_DISCORD_WEBHOOK_URL": "https://discord"})
    made = stack_environment(StackConfig("simulated", tmp_path), load_or_create_secrets(tmp_path / "secrets.json"))

    assert "another" not in made.values()
    assert made["MUR_DISCORD_WEBHOOK_URL"] == "https://discord"


def test_this_process_speaks_to_the_stores_without_the_shells_variables(environment: dict[str, str]) -> None:
    forget_foreign_variables()

    assert not [key for key in os.environ if key.startswith(("PG", "AWS_", "AIRFLOW", "MLFLOW_", "RAY_"))]
    assert os.environ["HTTP_PROXY"] == PROXY


@pytest.mark.parametrize("name", ["100%25", "b$HOME", "a,b", "{x}"])
def test_airflow_and_seaweedfs_get_no_path_that_they_would_read_in_another_way(tmp_path: Path, name: str) -> None:
    state = tmp_path / name
    config = StackConfig("simulated", state)
    config.make_runtime_folder()
    (state / "s3").mkdir()

    made = stack_environment(config, load_or_create_secrets(state / "secrets.json"))

    paths = [made[key] for key in made if key.startswith("AIRFLOW") and str(tmp_path) in made[key]]
    assert paths == []
    assert not set("%${},") & set(made["AIRFLOW_HOME"])
    assert config.plain_path(state / "s3").samefile(state / "s3")
    shutil.rmtree(config.runtime)


@pytest.mark.parametrize("temporary", ["/tmp", "/" + "t" * 17, "/" + "t" * 40])
def test_the_sockets_of_haproxy_have_paths_that_it_takes_for_every_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: str
) -> None:
    """With the number of an ordinary user in the path it did not start, and the API never answered."""
    monkeypatch.setattr(os, "getuid", lambda: 4_294_967_294)
    monkeypatch.setattr(tempfile, "tempdir", temporary)
    made = stack_environment(StackConfig("simulated", tmp_path), load_or_create_secrets(tmp_path / "secrets.json"))

    for name in ("RAY_SERVE_HAPROXY_SOCKET_PATH", "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH"):
        path = Path(made[name])
        node = "3c6ee108799ceaf6b66b1ed63aeb76e31ea17afbd4c87a950027eee2"
        assert len(str(path.parent / node / path.name)) <= 97
