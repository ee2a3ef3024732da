"""How much of everything a number of pairs needs, from what one pair was measured to need."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

# Measured on two shared cores; docs/sizing.md says by what. Upper values where a range was seen.
TRAIN_CORE_S = 2.5  # fine-tune a pair, with export and checks
REGISTER_S = 1.2  # MLflow, one version
JOB_START_S = 17.0  # a Ray job and its two workers
PAIRS_A_JOB = 50
TASKS_A_PAIR = 2  # fetch, promote
TASK_CORE_S = 1.0
FORECAST_BYTES = 292  # a row in Postgres with its index
VERSION_BYTES = 20_000  # rows of MLflow in Postgres
MODEL_BYTES = 616_000  # files of a version in S3
CANDLE_BYTES = 36  # in parquet
POOLED_MIB, PROCESS_MIB = 1.5, 150  # a pair in the pool; a process of any kind
REQUESTS_A_GATEWAY = 1100  # a second: the busier of the two measured runs
EXCHANGE_WEIGHT, WEIGHT_A_MINUTE = 2, 5400  # Binance: a request for klines; what the client allows itself

NODE_CORES, NODE_USABLE_GIB = 4, 12
HOURS_A_YEAR = 8760
TRAIN_WITHIN_S = 1800  # half of the hour, so that a retry fits
# Assumed prices, US dollars: on-demand cores, and a GB kept for a month.
CORE_HOUR, DATABASE_GB_MONTH, OBJECT_GB_MONTH = 0.05, 0.12, 0.023


@dataclass(frozen=True)
class Need:
    """For `pairs` that are forecast each hour and trained `trainings` times a day."""

    pairs: int
    trainings: int

    @property
    def training_nodes(self) -> int:
        """That finish a run within half an hour."""
        jobs = ceil(self.pairs / PAIRS_A_JOB)
        cores = (self.pairs * TRAIN_CORE_S + jobs * 2 * JOB_START_S) / TRAIN_WITHIN_S
        return ceil(cores / NODE_CORES)

    @property
    def airflow_cores(self) -> int:
        return ceil(self.pairs * TASKS_A_PAIR * TASK_CORE_S / TRAIN_WITHIN_S)

    @property
    def mlflow_workers(self) -> int:
        return ceil(self.pairs * REGISTER_S / TRAIN_WITHIN_S)

    @property
    def serving_nodes(self) -> int:
        """Two from the hundredth pair on, so that one may be lost."""
        gib = (3 * PROCESS_MIB + self.pairs * POOLED_MIB) / 1024
        return max(1 if self.pairs < 100 else 2, ceil(gib / NODE_USABLE_GIB))

    @property
    def exchange_minutes(self) -> float:
        """To ask for every pair's newest candle once, from one address."""
        return self.pairs * EXCHANGE_WEIGHT / WEIGHT_A_MINUTE

    @property
    def database_gb_a_year(self) -> float:
        forecasts = self.pairs * HOURS_A_YEAR * FORECAST_BYTES
        versions = self.pairs * self.trainings * 365 * VERSION_BYTES
        return (forecasts + versions) / 1e9

    @property
    def objects_gb_a_year(self) -> float:
        models = self.pairs * self.trainings * 365 * MODEL_BYTES
        return (models + self.pairs * HOURS_A_YEAR * CANDLE_BYTES) / 1e9

    @property
    def dollars_a_month(self) -> float:
        """Half a year in: nodes that always run, training nodes for half an hour a run, what is kept by then."""
        steady = (self.serving_nodes * NODE_CORES + self.airflow_cores + self.mlflow_workers + 4) * 730
        training = self.training_nodes * NODE_CORES * self.trainings * 30 * TRAIN_WITHIN_S / 3600
        kept = self.database_gb_a_year / 2 * DATABASE_GB_MONTH + self.objects_gb_a_year / 2 * OBJECT_GB_MONTH
        return (steady + training) * CORE_HOUR + kept

    @property
    def first_to_saturate(self) -> str:
        """What is asked for most beside what one installation of the usual size gives."""
        shares = {
            "the exchange's limit: a forecast is more than 2 minutes late": self.exchange_minutes / 2,
            "MLflow's rows: over 500 GB a year": self.database_gb_a_year / 500,
            "model files: over 10 TB a year": self.objects_gb_a_year / 10_000,
            "Airflow's scheduler: over 8 cores": self.airflow_cores / 8,
            "training: over 32 nodes": self.training_nodes / 32,
        }
        name, share = max(shares.items(), key=lambda item: item[1])
        return name if share > 1 else ""


PAIRS = (3, 100, 500, 1000, 2500, 5000, 10_000)


def sizing_table(trainings: int) -> str:
    lines = [
        "| pairs | training nodes | Airflow cores | MLflow workers | serving nodes | ask the exchange |"
        " Postgres a year | S3 a year | $ a month | saturates first |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for need in (Need(pairs, trainings) for pairs in PAIRS):
        lines.append(
            f"| {need.pairs:,} | {need.training_nodes} | {need.airflow_cores} | {need.mlflow_workers}"
            f" | {need.serving_nodes} | {need.exchange_minutes:.1f} min | {need.database_gb_a_year:,.1f} GB"
            f" | {need.objects_gb_a_year:,.0f} GB | {need.dollars_a_month:,.0f} | {need.first_to_saturate} |"
        )
    return "\n".join(lines)
