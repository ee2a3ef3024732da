"""Data-parallel ranks end with the same network, and learn what a single process would."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import distributed
from torch.multiprocessing import get_context

from make_us_rich.core.interval import HOUR_MS
from make_us_rich.forecasting import networks
from make_us_rich.forecasting.dataset import prepare
from make_us_rich.forecasting.samples import concatenate
from make_us_rich.forecasting.training import ProcessGroup, TrainingTask, train_foundation
from tests.unit.forecasting.random_candles import SMALL, START_MS, random_candles

pytestmark = pytest.mark.slow

WORLD_SIZE = 3


def weights_of(group: ProcessGroup) -> dict[str, np.ndarray]:
    torch.set_num_threads(1)
    networks._DROPOUT = 0.0  # the ranks draw different dropout masks
    candles = random_candles(4)
    as_of_ms = START_MS + 2200 * HOUR_MS
    split = prepare(candles, candles, TrainingTask(as_of_ms, SMALL)).split
    # of a batch of four, one rank has two samples; of the last batch, one sample, most ranks have none
    rows = concatenate([split.train, split.validation])[:201]
    task = TrainingTask(as_of_ms, replace(SMALL, batch=4), group=group)
    trained = train_foundation(lambda epoch: rows, split.validation, task)
    return {name: value.numpy() for name, value in trained.network.state_dict().items()}


def _run_rank(rank: int, rendezvous: str, out: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=WORLD_SIZE)
    group = ProcessGroup(rank, WORLD_SIZE)
    assert group.first_error("" if rank == 0 else "the store is down") == "the store is down"
    assert group.first_error("") == ""
    np.savez(out, **weights_of(group))
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("group")
    files = [folder / f"{rank}.npz" for rank in range(WORLD_SIZE)]
    server = get_context("forkserver")
    server.set_forkserver_preload([__name__])  # torch is imported once for all ranks
    processes = [
        server.Process(target=_run_rank, args=(rank, str(folder / "rendezvous"), str(file)))
        for rank, file in enumerate(files)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    return [dict(np.load(file)) for file in files]


def test_all_ranks_end_with_the_same_network(trained: list[dict[str, np.ndarray]]) -> None:
    for name, value in trained[0].items():
        np.testing.assert_array_equal(value, trained[1][name], err_msg=name)


def test_ranks_learn_what_a_single_process_does(trained: list[dict[str, np.ndarray]]) -> None:
    before = networks._DROPOUT
    try:
        assert_alike(trained[0], weights_of(ProcessGroup()))
    finally:
        networks._DROPOUT = before


def assert_alike(together: dict[str, np.ndarray], alone: dict[str, np.ndarray]) -> None:
    for name, value in alone.items():
        np.testing.assert_allclose(together[name], value, rtol=2e-3, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("rows", [1, 2, 7, 8])
def test_every_sample_of_a_batch_has_one_rank(rows: int) -> None:
    batch = torch.arange(rows)
    parts = [ProcessGroup(rank, 3).shard(batch) for rank in range(3)]
    weights = [ProcessGroup(rank, 3).loss_weight(batch) for rank in range(3)]
    counted = [part for part, weight in zip(parts, weights, strict=True) if weight]
    assert sorted(torch.cat(counted).tolist()) == list(range(rows))
    assert all(len(part) for part in parts)
    assert sum(weights) == pytest.approx(3)


def test_a_single_process_returns_its_own_error() -> None:
    assert ProcessGroup().first_error("the store is down") == "the store is down"
