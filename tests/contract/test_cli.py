"""`mkrich` on a real database and a real registry; tests/e2e runs the commands that need the whole stack."""

from __future__ import annotations

import json
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from make_us_rich.accounts import Accounts
from make_us_rich.accounts.tokens import digest
from make_us_rich.cli import app, main
from make_us_rich.core.errors import (
    BadModel,
    InputError,
    LocationRefused,
    MakeUsRichError,
    NameTaken,
    PairNotTraded,
    RegistryError,
    ServingError,
    SettingsError,
    UnknownPair,
)
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair, Series
from make_us_rich.core.settings import Settings, get_settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database import scores, trainings
from make_us_rich.database.migrations import MigrationError
from make_us_rich.database.pool import Database
from make_us_rich.documents import Score
from make_us_rich.operations.prepare import write_env
from make_us_rich.registry.client import CHAMPION, PREVIOUS, TAG_AS_OF_MS, TAG_SKILL_VS_NAIVE, Registry
from tests.support.accounts import transaction
from tests.support.app_threads import running_app
from tests.support.processes import PROJECT_ROOT, free_port
from tests.support.ray_stand_in import RayStandIn
from tests.support.servers import exchange_server, migrated_database, mlflow_server
from tests.support.tiny_model import tiny_model

pytestmark = pytest.mark.timeout(180)

PASSWORD = "a long and winding password"


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    """Set the addresses of a running Postgres, MLflow and exchange; every other component is down."""
    nobody = f"http://127.0.0.1:{free_port()}"
    with migrated_database() as database, mlflow_server() as mlflow, exchange_server() as exchange:
        yield {
            "MUR_DATABASE_URL": database,
            "MUR_MLFLOW_URL": mlflow,
            "MUR_EXCHANGE_URL": exchange,
            "MUR_MARKET": "simulated",
            **dict.fromkeys(("MUR_RAY_URL", "MUR_AIRFLOW_URL", "MUR_API_URL"), nobody),
            "MUR_S3_ENDPOINT_URL": nobody,
        }


@pytest.fixture
def ray(servers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[RayStandIn]:
    cluster = RayStandIn()
    with running_app(cluster.app()) as url:
        for name in ("MUR_RAY_URL", "MUR_API_URL"):
            monkeypatch.setenv(name, url)
        get_settings.cache_clear()
        yield cluster


@pytest.fixture(autouse=True)
def _settings(servers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in servers.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def mkrich(*arguments: str) -> Result:
    """Run a command; raises the error that `main` would report to the user."""
    done = CliRunner().invoke(app, list(arguments))
    if isinstance(done.exception, MakeUsRichError):
        raise done.exception
    return done


def asked(*arguments: str) -> list[dict[str, object]]:
    done = mkrich(*arguments, "--json")
    answer: list[dict[str, object]] = json.loads(done.stdout)
    return answer


def test_a_command_that_changes_a_pair_tells_the_service_at_once(servers: dict[str, str], ray: RayStandIn) -> None:
    series = Series(Pair("bnb", "usdt"), Interval.H1).name
    mkrich("pairs", "add", "bnb_usdt")
    _register(servers["MUR_MLFLOW_URL"], series, champion=1)

    steps = {
        ("plan", "bnb_usdt", "dedicated", "--most", "2"): True,
        ("park", "bnb_usdt", "--reason", "halted"): False,
        ("unpark", "bnb_usdt"): True,
        ("plan", "bnb_usdt", "off"): False,
        ("plan", "bnb_usdt", "dedicated"): True,
        ("remove", "bnb_usdt"): False,
    }
    for step, is_served in steps.items():
        said = mkrich("pairs", *step).stdout
        assert ("it is served" in said, "it is no longer served" in said) == (is_served, not is_served), (step, said)
        assert (series in ray.served) is is_served, step


def test_several_pairs_are_added_with_one_deployment_or_none_of_them(servers: dict[str, str], ray: RayStandIn) -> None:
    with pytest.raises(PairNotTraded, match="does not trade foo_bar"):
        mkrich("pairs", "add", "uni_usdt", "foo_bar")
    assert "uni_usdt" not in {item["pair"] for item in asked("pairs", "list")}
    told = len(ray.configs)

    said = " ".join(mkrich("pairs", "add", "uni_usdt", "fil_usdt", "uni_usdt", "--plan", "pooled").stdout.split())

    assert len(ray.configs) == told + 1
    assert "mkrich train uni_usdt fil_usdt" in said
    assert "fil_usdt: it is served when it is trained" in said
    added = {item["pair"]: item["plan"] for item in asked("pairs", "list") if item["pair"] in ("uni_usdt", "fil_usdt")}
    assert added == {"uni_usdt": "pooled", "fil_usdt": "pooled"}
    for pair in added:
        mkrich("pairs", "remove", pair)


def test_the_doctor_sees_a_lost_application_and_its_remedy_restores_it(
    servers: dict[str, str], ray: RayStandIn
) -> None:
    def finding() -> dict[str, object]:
        return next(item for item in asked("doctor") if item["name"] == "api")

    series = Series(Pair("icp", "usdt"), Interval.H1).name
    _register(servers["MUR_MLFLOW_URL"], series, champion=1)
    mkrich("pairs", "add", "icp_usdt")
    assert "icp_usdt" not in str(finding()["detail"])
    applications = ray.configs[-1]["applications"]
    applications[:] = [each for each in applications if each["name"] != series]

    lost = finding()
    assert lost["state"] == "failed"
    assert "icp_usdt: it has a champion and is not loaded" in str(lost["detail"])
    assert "`mkrich deploy`" in str(lost["way_out"])

    assert "series are served" in mkrich("deploy").stdout
    assert series in ray.served
    assert "icp_usdt" not in str(finding()["detail"])
    mkrich("pairs", "remove", "icp_usdt")


def test_a_pair_is_added_changed_parked_and_unparked(servers: dict[str, str]) -> None:
    added = mkrich("pairs", "add", "doge_usdt", "--plan", "pooled").stdout
    assert "mkrich train doge_usdt" in added
    changed = mkrich("pairs", "plan", "doge_usdt", "dedicated", "--least", "0", "--most", "3").stdout
    parked = mkrich("pairs", "park", "doge_usdt", "--reason", "halted by the exchange").stdout
    for said in (added, changed, parked):  # Ray is down
        assert "takes effect when the next training run ends: it begins at" in " ".join(said.split())

    (doge,) = [item for item in asked("pairs", "list") if item["pair"] == "doge_usdt"]
    assert (doge["plan"], doge["min_replicas"], doge["max_replicas"]) == ("dedicated", 0, 3)
    assert not doge["active"]
    assert "halted by the exchange" in mkrich("pairs", "list").stdout

    assert "active" in mkrich("pairs", "unpark", "doge_usdt").stdout
    with pytest.raises(UnknownPair, match="such as btc_usdt"):
        mkrich("pairs", "add", "DOGE")
    with pytest.raises(PairNotTraded, match="does not trade foo_bar"):
        mkrich("pairs", "add", "foo_bar")
    mkrich("pairs", "remove", "doge_usdt")
    assert "doge_usdt" not in {item["pair"] for item in asked("pairs", "list")}
    with pytest.raises(UnknownPair):
        mkrich("pairs", "remove", "doge_usdt")
    with Accounts(Database(servers["MUR_DATABASE_URL"])) as accounts:
        entries = [(entry.actor, entry.action, entry.subject) for entry in accounts.audit.entries(5)]
    done = ("remove pair", "unpark pair", "park pair", "put pair", "put pair")
    assert entries == [("command line", action, "doge_usdt") for action in done]


def test_each_pair_is_listed_with_its_last_training_and_when_it_is_due_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    newest_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    ltc, sol, xrp = (Pair(base, "usdt") for base in ("ltc", "sol", "xrp"))
    hourly = {"market": "simulated", "interval": Interval.H1}
    with migrated_database() as url, Database(url) as database:
        monkeypatch.setenv("MUR_DATABASE_URL", url)
        for pair in (ltc, sol, xrp):
            pairs_table.put(database, pair)
        for pair, hours in ((ltc, 3), (xrp, 30)):
            trained_ms = newest_ms - hours * HOUR_MS
            one_fits = {pair: 1400.0}  # seconds, of half an hour
            attempts = {trained_ms: None, trained_ms + HOUR_MS: "no candles", trained_ms - HOUR_MS: None}
            for as_of_ms, failure in attempts.items():
                trainings.record(database, {pair: failure}, as_of_ms=as_of_ms, run_seconds=one_fits, **hourly)
        bad = Score(n=168, skill_vs_naive=-1, t_vs_naive=-9, coverage_80=0, shift={}, drifted=True, reason="worse")
        scores.save(database, bad, pair=ltc, as_of_ms=newest_ms, **hourly)

        listed = {item["pair"]: item["trainings"][0] for item in asked("pairs", "list")}
        printed = mkrich("pairs", "list").stdout
        pairs_table.park(database, sol, "halted")
        parked = next(item for item in asked("pairs", "list") if item["pair"] == sol)

    assert {pair: item["reason"] for pair, item in listed.items()} == {ltc: "drift", sol: "new", xrp: "age"}
    trained = {pair: item["trained_ms"] for pair, item in listed.items()}
    assert trained == {ltc: newest_ms - 3 * HOUR_MS, sol: None, xrp: newest_ms - 30 * HOUR_MS}
    assert [listed[pair]["failed_ms"] for pair in (ltc, sol)] == [newest_ms - 2 * HOUR_MS, None]
    assert [listed[pair]["failure"] for pair in (ltc, sol)] == ["no candles", None]
    due = [listed[pair]["due_ms"] - listed[sol]["due_ms"] for pair in (sol, xrp, ltc)]
    assert due == [0, HOUR_MS, 2 * HOUR_MS]
    assert listed[sol]["due_ms"] % HOUR_MS == 0
    assert all(text in printed for text in ("never", "(new)", "(drift)", "(age)"))
    assert parked["trainings"] == [], "a parked pair is not due"


def test_an_admin_is_made_once_and_reset_only_when_asked(servers: dict[str, str]) -> None:
    mkrich("create-admin", "grace", "--password", PASSWORD)
    with pytest.raises(NameTaken):
        mkrich("create-admin", "grace", "--password", "another long password")

    mkrich("create-admin", "grace", "--password", "another long password", "--reset")

    with Accounts(Database(servers["MUR_DATABASE_URL"])) as accounts:
        assert accounts.users.authenticate("grace", "another long password").is_admin


def test_models_are_listed_with_their_aliases(servers: dict[str, str]) -> None:
    mkrich("pairs", "add", "eth_usdt")
    _register(servers["MUR_MLFLOW_URL"], "eth_usdt_1h", champion=2)

    (champion,) = asked("models")
    newest, first = asked("models", "eth_usdt")

    assert (champion["name"], champion["version"]) == ("eth_usdt_1h", 2)
    assert (newest["version"], newest["aliases"]) == (2, [CHAMPION])
    assert (first["version"], first["aliases"]) == (1, [])
    assert "2023-11-14 22:00" in mkrich("models", "eth_usdt").stdout
    assert asked("models", "foundation") == []


def test_a_person_promotes_a_version_and_goes_back(servers: dict[str, str]) -> None:
    _register(servers["MUR_MLFLOW_URL"], "ada_usdt_1h", champion=2)

    mkrich("promote", "ada_usdt", "1", "--by", "grace", "--no-serve")
    two, one = asked("models", "ada_usdt")
    assert (one["aliases"], two["aliases"]) == ([CHAMPION], [PREVIOUS])
    assert "by grace" in mkrich("models", "ada_usdt").stdout

    mkrich("rollback", "ada_usdt", "--no-serve")
    two, one = asked("models", "ada_usdt")
    assert (one["aliases"], two["aliases"]) == ([PREVIOUS], [CHAMPION])
    with pytest.raises(RegistryError, match="no previous champion"):
        mkrich("rollback", "xrp_usdt", "--no-serve")
    with pytest.raises(ServingError, match="is it running"):
        mkrich("promote", "ada_usdt", "1")


def test_the_doctor_says_what_is_down_and_the_way_out(servers: dict[str, str]) -> None:
    mkrich("pairs", "add", "sol_usdt")
    done = mkrich("doctor", "--json")

    found = {item["name"]: item for item in json.loads(done.stdout)}
    assert done.exit_code == 1
    assert found["postgres"]["state"] == found["exchange"]["state"] == "ok"
    for name, variable in [("s3", "MUR_S3_ENDPOINT_URL"), ("ray", "MUR_RAY_URL"), ("api", "MUR_API_URL")]:
        assert found[name]["state"] == "failed"
        assert variable in found[name]["way_out"]
        program = "ray" if name == "api" else name  # the API is an application on Ray
        assert f"mkrich logs {program}" in found[name]["way_out"]
    assert found["mlflow"]["state"] == found["discord"]["state"] == "warning"
    assert "mkrich train" in found["mlflow"]["way_out"]
    assert "sol_usdt" in found["mlflow"]["detail"]


def test_a_broken_version_is_not_promoted(servers: dict[str, str]) -> None:
    broken = {"dot_usdt_1h": tiny_model("btc_usdt"), "atom_usdt_1h": b"no graph"}
    for name, graph in broken.items():
        _register(servers["MUR_MLFLOW_URL"], name, champion=2, graph=graph)
        pair = Series.parse(name).pair

        with pytest.raises(BadModel, match=f"version 1 of {name} is broken"):
            mkrich("promote", pair, "1", "--no-serve")

        two, one = asked("models", pair)
        assert (one["aliases"], two["aliases"]) == ([], [CHAMPION])


@pytest.fixture
def refused_location(servers: dict[str, str]) -> Iterator[None]:
    faults = f"{servers['MUR_EXCHANGE_URL']}/_control/faults"
    httpx.post(faults, json={"kind": "451"}).raise_for_status()
    yield
    httpx.delete(faults).raise_for_status()


@pytest.mark.usefixtures("refused_location")
def test_the_doctor_knows_the_way_out_of_a_refused_location() -> None:
    (exchange,) = [item for item in asked("doctor") if item["name"] == "exchange"]

    assert exchange["state"] == "failed"
    assert "HTTP 451" in str(exchange["detail"])
    assert exchange["way_out"] == "set MUR_EXCHANGE_URL=https://data-api.binance.vision"


@pytest.mark.usefixtures("refused_location")
@pytest.mark.parametrize("command", ["demo", "up"])
def test_a_live_stack_asks_the_exchange_before_it_starts(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUR_STACK_HOME", str(tmp_path / "stack"))

    with pytest.raises(LocationRefused, match=r"MUR_EXCHANGE_URL=https://data-api\.binance\.vision"):
        mkrich(command, "--live")
    assert not (tmp_path / "stack").exists(), "a stack was started all the same"


def test_the_doctor_names_a_missing_migration(servers: dict[str, str], tmp_path: Path) -> None:
    url = servers["MUR_DATABASE_URL"]
    with transaction(url) as cursor:
        cursor.execute("DELETE FROM schema_migrations WHERE version = '0002'")
    try:
        (postgres,) = [item for item in asked("doctor") if item["name"] == "postgres"]
    finally:
        with transaction(url) as cursor:
            cursor.execute("INSERT INTO schema_migrations VALUES ('0002')")

    assert "0002" in str(postgres["detail"])
    assert postgres["way_out"] == "run `mkrich migrate`"


def test_a_database_of_a_newer_version_is_refused_by_name(servers: dict[str, str]) -> None:
    url = servers["MUR_DATABASE_URL"]
    with transaction(url) as cursor:
        cursor.execute("INSERT INTO schema_migrations VALUES ('9999')")
    try:
        (postgres,) = [item for item in asked("doctor") if item["name"] == "postgres"]
        with pytest.raises(MigrationError, match=r"newer version.*9999"):
            mkrich("migrate")
    finally:
        with transaction(url) as cursor:
            cursor.execute("DELETE FROM schema_migrations WHERE version = '9999'")

    assert postgres["state"] == "failed"
    assert "9999" in str(postgres["detail"])
    assert "newer version" in str(postgres["detail"])


def test_an_env_file_has_a_secret_of_its_own_for_each_empty_variable(tmp_path: Path) -> None:
    path = tmp_path / ".env"

    write_env(PROJECT_ROOT / ".env.example", path)

    made = dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line and line[0] != "#")
    empty = [line[:-1] for line in (PROJECT_ROOT / ".env.example").read_text().splitlines() if line.endswith("=")]
    secrets = [made[name] for name in empty]
    assert len(set(secrets)) == len(secrets)
    assert all(len(secret) >= 20 for secret in secrets)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_text()
    with pytest.raises(SettingsError, match="remove it first"):
        write_env(PROJECT_ROOT / ".env.example", path)
    assert path.read_text() == before


def test_the_words_of_2022_name_what_they_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUR_STACK_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    for word in ("init", "run", "start", "stop"):
        refused = mkrich(word, "everything")
        assert refused.exit_code == 2
        assert "'serving'" in refused.stderr
        assert "'training'" in refused.stderr
    assert mkrich("init").exit_code == mkrich("run").exit_code == 2
    assert "mkrich run serving" in " ".join(mkrich("init", "serving").stdout.split())
    assert [path.name for path in tmp_path.iterdir()] == ["simulated"]
    secrets = tmp_path / "simulated" / "secrets.json"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    before = secrets.read_text()
    mkrich("init", "training")
    assert secrets.read_text() == before
    for words in (("stop", "interface"), ("start", "agent")):
        assert "mkrich run training" in " ".join(mkrich(*words).stderr.split())


_BACKTEST = ("backtest", "--from", "2026-01-01", "--to", "2026-05-01", "--pairs", "btc_usdt")
_DOWNLOAD = ("candles", "download", "--from", "2026-01-01", "--to", "2026-02-01", "--out")
_MISTAKES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("pairs", "add", "DOGE"), "such as btc_usdt"),
    (("pairs", "add", "foo_bar"), "does not trade foo_bar"),
    (("pairs", "plan", "btc_usdt", "nonsense"), "dedicated"),
    (("pairs", "remove", "never_usdt"), "never_usdt"),
    (("train", "btc_usdt", "--as-of", "yesterday"), "write 2026-01-31T12:00:00Z"),
    (("train", "btc_usdt", "--as-of", "2199-01-01"), "is in the future"),
    (("train", "btc_usdt", "--interval", "7h"), "use 1h"),
    (("forecast", "btc_usdt", "--interval", "7h"), "use 1h"),
    (("models", "BTC"), "such as btc_usdt"),
    (("promote", "btc_usdt", "999"), "btc_usdt_1h has no version 999: see `mkrich models`"),
    (("rollback", "never_usdt"), "no previous champion"),
    (("create-admin", "grace", "--password", "short"), "password"),
    ((*_BACKTEST, "--every", "soon"), "write 5w"),
    ((*_BACKTEST, "--out", "{file}/b.parquet"), "name another file or folder"),
    ((*_DOWNLOAD, "{folder}", "--pairs", "BTC"), "such as btc_usdt"),
    ((*_DOWNLOAD, "{folder}", "--pairs", ""), "--pairs"),
    ((*_DOWNLOAD, "{file}", "--pairs", "btc_usdt"), "name another file or folder"),
    (("logs", "nothing"), "start the stack first"),
    (("init-env", "{file}"), "remove it first"),
    (("up", "--data", "{folder}"), "holds no .parquet klines"),
)


@pytest.mark.parametrize(("words", "message"), _MISTAKES, ids=lambda value: " ".join(value)[:40])
def test_a_mistake_ends_a_command_with_one_line_and_code_2(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.touch()
    folder.mkdir()
    monkeypatch.setenv("MUR_STACK_HOME", str(folder))
    arguments = [word.format(file=file, folder=folder) for word in words]
    assert _main(arguments, monkeypatch) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert message in said


@pytest.mark.parametrize(
    ("name", "value"), [("MUR_DATABASE_URL", "a_secret"), ("MUR_INTERVALS", "7h"), ("MUR_PORT_BASE", "twenty")]
)
def test_a_malformed_setting_ends_a_command_with_one_line_that_names_it(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    assert _main(["up"] if name == "MUR_PORT_BASE" else ["pairs", "list"], monkeypatch) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {name}")
    assert said.count("\n") == 1
    assert "a_secret" not in said


def test_the_job_of_a_backtest_ends_with_one_line_after_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(PROJECT_ROOT)
    assert _main([*_BACKTEST, "--model", "nonsense"], monkeypatch) == 2
    assert capfd.readouterr().err.splitlines() == [
        "error: unknown architecture 'nonsense': use one of lstm, gru, linear, patchtst, level_mse"
    ]


def _main(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """Run a command as the console script does; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["mkrich", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def _register(mlflow_url: str, name: str, *, champion: int, graph: bytes | None = None) -> None:
    """Register two versions of a model, of a graph that can be served unless another is given."""
    series = Series.parse(name)
    graph = graph or tiny_model(series.pair, interval=series.interval)
    tags = {TAG_AS_OF_MS: "1699999200000", TAG_SKILL_VS_NAIVE: "0.07"}
    with Registry(Settings(mlflow_url=mlflow_url)) as registry:
        for _ in range(2):
            registry.publish(name, "a test", graph=graph, params={}, metrics={}, tags=tags, description="of a test")
        registry.set_alias(name, CHAMPION, champion)


def test_tokens_are_created_listed_and_revoked_without_a_browser(servers: dict[str, str]) -> None:
    with Accounts(Database(servers["MUR_DATABASE_URL"])) as accounts:
        accounts.users.create("Scripter", PASSWORD)
        accounts.ensure_service_token("mur_" + "s" * 43)

        made = mkrich("tokens", "create", "scripter", "hourly job")

        token = made.stdout.strip()
        assert token.startswith("mur_")
        assert made.stderr.strip() == "keep it: it is stored nowhere and not shown again"
        assert [owner.user_id for owner in accounts.tokens.find([digest(token)]).values()]
        assert [(row["name"], row["prefix"]) for row in asked("tokens", "list", "Scripter")] == [
            ("hourly job", token[:10])
        ]
        assert "hourly job" in mkrich("tokens", "list", "Scripter").stdout

        with pytest.raises(InputError, match="has no token named 'other'; it has: 'hourly job'"):
            mkrich("tokens", "revoke", "Scripter", "other")
        assert "is revoked" in mkrich("tokens", "revoke", "Scripter", "hourly job").stdout
        assert accounts.tokens.find([digest(token)]) == {}
        assert asked("tokens", "list", "Scripter") == []
        for action in (("create", "nobody", "x"), ("list", "nobody"), ("revoke", "nobody", "x")):
            with pytest.raises(InputError, match="the account 'nobody' does not exist"):
                mkrich("tokens", *action)
        for action in (("create", "service", "x"), ("revoke", "service", "service")):
            with pytest.raises(InputError, match="service is the installation's own account"):
                mkrich("tokens", *action)
        done = [(entry.actor, entry.action, entry.subject, entry.detail) for entry in accounts.audit.entries(2)]
        assert done == [("command line", f"{verb} token", "Scripter", "hourly job") for verb in ("revoke", "create")]
