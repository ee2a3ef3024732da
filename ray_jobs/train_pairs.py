"""Train pairs on a Ray cluster: the workers of one TorchTrainer share the pairs, or the samples of each pair.

    python -m ray_jobs.train_pairs --pairs btc_usdt,eth_usdt --interval 1h --as-of-ms 1700000000000

The result of each pair is stored in S3: see make_us_rich/pipeline/ray_jobs.py. A pair that fails does not fail the
others; the job fails only if it cannot run. When a worker is lost, all restart and skip the pairs that have ended.
After --stop-at-ms no further pair is begun, and the result of the others is `postponed`.
"""

from __future__ import annotations

import torch

from make_us_rich.core.settings import get_settings
from make_us_rich.forecasting.training import ProcessGroup
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.pipeline.ray_jobs import postponed, write_result
from make_us_rich.registry.client import Registry
from ray_jobs.job import TrainingJob, parse_arguments, process_group, run_on_workers, training_device


def main() -> None:
    job = parse_arguments("train a batch of pairs on a Ray cluster")
    if job.is_over:  # an earlier job of the run took its time: starting workers would take more
        store = ObjectStore.from_settings(get_settings())
        for pair in job.pairs:
            write_result(store, job.submission_id, postponed(pair))
        print(f"postponed: {', '.join(job.pairs)}", flush=True)
    else:
        run_on_workers(train_shard, job, get_settings().train_workers)


def train_shard(job: TrainingJob) -> None:
    """Train this worker's share: every n-th pair, alone; with fewer pairs than workers, some samples of each pair."""
    from ray_jobs.pair_trainer import PairTrainer

    group, pairs = process_group(), job.pairs
    torch.set_num_threads(1)
    if group.world_size <= len(pairs):
        pairs, group = pairs[group.rank :: group.world_size], ProcessGroup()
    settings, device = get_settings(), training_device()
    with Registry(settings) as registry:
        PairTrainer(settings, registry, job, group, device).run(pairs)


if __name__ == "__main__":
    main()
