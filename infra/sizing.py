"""Estimate what a number of pairs needs, from what runs of 3 to 300 pairs were measured to need."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

# Measured on two shared cores; docs/reference/sizing.md names the commands. Upper values where a range was seen.
RUN_S = 10.0  # the tasks that every run has
JOB_START_S = 24.0  # a Ray job and its workers
PAIRS_PER_JOB = 150
TRAIN_CORE_S = 2.3  # fine-tune a pair, with export, checks and upload
OWN_TASKS_S = 1.2  # fetch, promote and serve a pair that has tasks of its own
SHARED_TASKS_S = 0.25  # the same for one of many, which share tasks
MOST_OWN_TASKS = 32
AIRFLOW_RUN_CORE_S, AIRFLOW_CORE_S = 60.0, 0.25  # of the tasks: of a run, and of a pair
REGISTER_CORE_S = 0.3  # MLflow's server, one version
FORECAST_BYTES = 1033  # a row of 24 horizons in Postgres with its indexes
OUTCOME_BYTES = 339  # of a forecast, at the horizons that are scored
LOG_BYTES = 832  # of a forecast in the published log, as CSV and as parquet
VERSION_BYTES = 20_000  # rows of MLflow in Postgres
MODEL_BYTES = 616_000  # files of a version in S3
CANDLE_BYTES = 36  # in parquet
POOLED_MIB, PROCESS_MIB = 1.5, 150  # a pair in the pool; a process of any kind
EXCHANGE_WEIGHT, WEIGHT_PER_MINUTE = 2, 5400  # Binance: a request for klines; the limit that our client keeps

NODE_CORES, NODE_USABLE_GIB = 4, 12
HOURS_PER_YEAR, HOURS_PER_MONTH = 8760, 730
BUDGET_S = 1800.0  # of a run: the default of MUR_TRAINING_MINUTES
OTHER_SHARE = 0.5  # of the budget that is left to what more training nodes do not shorten
CORE_HOUR, DATABASE_GB_MONTH, OBJECT_GB_MONTH = 0.05, 0.12, 0.023  # assumed prices, US dollars
PAIRS = (3, 100, 500, 1000, 2500, 5000, 10_000)


def run_seconds(pairs: int, workers: int) -> float:
    """Return the time of a run of `train_pairs` that trains these pairs on so many workers of one core."""
    return _other_seconds(pairs) + pairs * TRAIN_CORE_S / workers


def _other_seconds(pairs: int) -> float:
    """Return the part of a run's time that more workers do not shorten."""
    tasks_s = OWN_TASKS_S if pairs <= MOST_OWN_TASKS else SHARED_TASKS_S
    return RUN_S + ceil(pairs / PAIRS_PER_JOB) * JOB_START_S + pairs * tasks_s


MOST_PAIRS_A_RUN = max(count for count in range(1, 5000) if _other_seconds(count) <= OTHER_SHARE * BUDGET_S)


@dataclass(frozen=True)
class Need:
    pairs: int
    trained_every_h: float
    training_nodes: int
    run_s: float
    airflow_cores: int
    mlflow_workers: int
    serving_nodes: int
    exchange_minutes: float  # to ask once for every pair's newest candle, from one address
    database_gb_per_year: float
    objects_gb_per_year: float
    dollars_per_month: float  # after half a year of stored data
    first_bottleneck: str


def estimate(pairs: int, hours: int) -> Need:
    """Estimate the resources for `pairs` that are forecast each hour, and trained every `hours` if runs allow it."""
    wanted = ceil(pairs / hours)
    a_run = min(wanted, MOST_PAIRS_A_RUN)
    training_nodes = ceil(a_run * TRAIN_CORE_S / (BUDGET_S - _other_seconds(a_run)) / NODE_CORES)
    run_s = run_seconds(a_run, training_nodes * NODE_CORES)
    airflow_cores = ceil((AIRFLOW_RUN_CORE_S + a_run * AIRFLOW_CORE_S) / BUDGET_S)
    mlflow_workers = ceil(a_run * REGISTER_CORE_S / BUDGET_S)
    serving_gib = (3 * PROCESS_MIB + pairs * POOLED_MIB) / 1024
    serving_nodes = max(1 if pairs < 100 else 2, ceil(serving_gib / NODE_USABLE_GIB))  # of two, one may be lost
    exchange_minutes = pairs * EXCHANGE_WEIGHT / WEIGHT_PER_MINUTE
    versions = a_run * HOURS_PER_YEAR
    database_gb = (
        pairs * HOURS_PER_YEAR * (FORECAST_BYTES + OUTCOME_BYTES + LOG_BYTES) + versions * VERSION_BYTES
    ) / 1e9
    objects_gb = (versions * MODEL_BYTES + pairs * HOURS_PER_YEAR * CANDLE_BYTES) / 1e9
    core_hours: float = HOURS_PER_MONTH * (serving_nodes * NODE_CORES + airflow_cores + mlflow_workers + 4)
    core_hours += HOURS_PER_MONTH * training_nodes * NODE_CORES * run_s / 3600
    storage_dollars = database_gb / 2 * DATABASE_GB_MONTH + objects_gb / 2 * OBJECT_GB_MONTH
    shares = {
        "the exchange's limit: a forecast is more than 2 minutes late": exchange_minutes / 2,
        "MLflow's rows: over 500 GB a year": database_gb / 500,
        "model files: over 10 TB a year": objects_gb / 10_000,
        "a run: more pairs than it can fetch, promote and serve": wanted / MOST_PAIRS_A_RUN,
    }
    bottleneck, share = max(shares.items(), key=lambda item: item[1])
    return Need(
        pairs,
        max(hours, pairs / a_run),
        training_nodes,
        run_s,
        airflow_cores,
        mlflow_workers,
        serving_nodes,
        exchange_minutes,
        database_gb,
        objects_gb,
        core_hours * CORE_HOUR + storage_dollars,
        bottleneck if share > 1 else "",
    )


def sizing_table(hours: int) -> str:
    """Return the Markdown table of what numbers of pairs need that are trained every `hours`."""
    lines = [
        "| pairs | each is trained every | training nodes | a run takes | Airflow cores | MLflow workers"
        " | serving nodes | time to query the exchange | Postgres per year | S3 per year | $ per month"
        " | first bottleneck |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for need in (estimate(pairs, hours) for pairs in PAIRS):
        lines.append(
            f"| {need.pairs:,} | {need.trained_every_h:.2g} h | {need.training_nodes} | {need.run_s / 60:.0f} min"
            f" | {need.airflow_cores} | {need.mlflow_workers}"
            f" | {need.serving_nodes} | {need.exchange_minutes:.1f} min | {need.database_gb_per_year:,.1f} GB"
            f" | {need.objects_gb_per_year:,.0f} GB | {need.dollars_per_month:,.0f} | {need.first_bottleneck} |"
        )
    return "\n".join(lines)


def run_table() -> str:
    """Return the Markdown table of the time of a run by the formula, for the runs of the benchmark and larger ones."""
    rows = [(pairs, 2) for pairs in (3, 30, 100, 300)] + [(1000, 8), (2000, 32), (10_000, 40)]
    lines = ["| pairs of a run | workers of one core | by the formula |", "|---|---|---|"]
    lines += [f"| {pairs:,} | {workers} | {run_seconds(pairs, workers):,.0f} s |" for pairs, workers in rows]
    return "\n".join(lines)
