"""Estimate what a number of pairs needs, from what one pair was measured to need."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

# Measured on two shared cores; docs/reference/sizing.md names the commands. Upper values where a range was seen.
TRAIN_CORE_S = 2.5  # fine-tune a pair, with export and checks
REGISTER_S = 1.2  # MLflow, one version
JOB_START_CORE_S = 34.0  # a Ray job and its two workers
PAIRS_PER_JOB = 50
AIRFLOW_CORE_S = 2.0  # two tasks for each pair: fetch and promote
FORECAST_BYTES = 1033  # a row of 24 horizons in Postgres with its indexes
OUTCOME_BYTES = 339  # of a forecast, at the horizons that are scored
LOG_BYTES = 832  # of a forecast in the published log, as CSV and as parquet
VERSION_BYTES = 20_000  # rows of MLflow in Postgres
MODEL_BYTES = 616_000  # files of a version in S3
CANDLE_BYTES = 36  # in parquet
POOLED_MIB, PROCESS_MIB = 1.5, 150  # a pair in the pool; a process of any kind
EXCHANGE_WEIGHT, WEIGHT_PER_MINUTE = 2, 5400  # Binance: a request for klines; the limit that our client keeps

NODE_CORES, NODE_USABLE_GIB = 4, 12
HOURS_PER_YEAR = 8760
BUDGET_S = 1800  # of a run: the default of MUR_TRAINING_MINUTES
TRAIN_WITHIN_S = 0.8 * BUDGET_S  # then no further pair is begun
CORE_HOUR, DATABASE_GB_MONTH, OBJECT_GB_MONTH = 0.05, 0.12, 0.023  # assumed prices, US dollars
PAIRS = (3, 100, 500, 1000, 2500, 5000, 10_000)


@dataclass(frozen=True)
class Need:
    pairs: int
    training_nodes: int
    airflow_cores: int
    mlflow_workers: int
    serving_nodes: int
    exchange_minutes: float  # to ask once for every pair's newest candle, from one address
    database_gb_per_year: float
    objects_gb_per_year: float
    dollars_per_month: float  # after half a year of stored data
    first_bottleneck: str


def estimate(pairs: int, trainings: int) -> Need:
    """Estimate the resources for `pairs` that are forecast each hour and trained `trainings` times a day."""
    training_core_s = pairs * TRAIN_CORE_S + ceil(pairs / PAIRS_PER_JOB) * JOB_START_CORE_S
    training_nodes = ceil(training_core_s / TRAIN_WITHIN_S / NODE_CORES)
    airflow_cores = ceil(pairs * AIRFLOW_CORE_S / BUDGET_S)
    mlflow_workers = ceil(pairs * REGISTER_S / BUDGET_S)
    serving_gib = (3 * PROCESS_MIB + pairs * POOLED_MIB) / 1024
    serving_nodes = max(1 if pairs < 100 else 2, ceil(serving_gib / NODE_USABLE_GIB))  # of two, one may be lost
    exchange_minutes = pairs * EXCHANGE_WEIGHT / WEIGHT_PER_MINUTE
    versions = pairs * trainings * 365
    database_gb = (
        pairs * HOURS_PER_YEAR * (FORECAST_BYTES + OUTCOME_BYTES + LOG_BYTES) + versions * VERSION_BYTES
    ) / 1e9
    objects_gb = (versions * MODEL_BYTES + pairs * HOURS_PER_YEAR * CANDLE_BYTES) / 1e9
    core_hours = 730.0 * (serving_nodes * NODE_CORES + airflow_cores + mlflow_workers + 4)
    core_hours += training_nodes * NODE_CORES * trainings * 30 * BUDGET_S / 3600
    storage_dollars = database_gb / 2 * DATABASE_GB_MONTH + objects_gb / 2 * OBJECT_GB_MONTH
    shares = {
        "the exchange's limit: a forecast is more than 2 minutes late": exchange_minutes / 2,
        "MLflow's rows: over 500 GB a year": database_gb / 500,
        "model files: over 10 TB a year": objects_gb / 10_000,
        "Airflow's scheduler: over 8 cores": airflow_cores / 8,
        "training: over 32 nodes": training_nodes / 32,
    }
    bottleneck, share = max(shares.items(), key=lambda item: item[1])
    return Need(
        pairs,
        training_nodes,
        airflow_cores,
        mlflow_workers,
        serving_nodes,
        exchange_minutes,
        database_gb,
        objects_gb,
        core_hours * CORE_HOUR + storage_dollars,
        bottleneck if share > 1 else "",
    )


def sizing_table(trainings: int) -> str:
    lines = [
        "| pairs | training nodes | Airflow cores | MLflow workers | serving nodes | time to query the exchange |"
        " Postgres per year | S3 per year | $ per month | first bottleneck |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for need in (estimate(pairs, trainings) for pairs in PAIRS):
        lines.append(
            f"| {need.pairs:,} | {need.training_nodes} | {need.airflow_cores} | {need.mlflow_workers}"
            f" | {need.serving_nodes} | {need.exchange_minutes:.1f} min | {need.database_gb_per_year:,.1f} GB"
            f" | {need.objects_gb_per_year:,.0f} GB | {need.dollars_per_month:,.0f} | {need.first_bottleneck} |"
        )
    return "\n".join(lines)
