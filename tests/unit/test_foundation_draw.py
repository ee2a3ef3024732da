"""Which pairs the foundation model learns from when there are more than MUR_FOUNDATION_PAIRS."""

from __future__ import annotations

from make_us_rich.core.pair import Pair
from ray_jobs.train_foundation import choose_pairs

PAIRS = [Pair(f"coin{number}", "usdt") for number in range(300)]


def test_all_pairs_while_there_are_few() -> None:
    assert choose_pairs(PAIRS[:3], 3, as_of_ms=0) == PAIRS[:3]


def test_the_choice_is_the_same_for_each_worker_whatever_the_order_of_the_pairs() -> None:
    chosen = choose_pairs(PAIRS, 100, as_of_ms=7)
    assert choose_pairs(PAIRS[::-1], 100, as_of_ms=7) == chosen
    assert len(set(chosen)) == 100
    assert set(chosen) <= set(PAIRS)


def test_another_week_chooses_others() -> None:
    assert choose_pairs(PAIRS, 100, as_of_ms=7) != choose_pairs(PAIRS, 100, as_of_ms=8)
