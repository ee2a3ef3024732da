"""Which pairs the model of all pairs learns from when there are more than it may."""

from __future__ import annotations

from ray_jobs.train_foundation import drawn

PAIRS = [f"coin{number}_usdt" for number in range(300)]


def test_all_pairs_while_there_are_few() -> None:
    assert drawn(PAIRS[:3], 3, as_of_ms=0) == PAIRS[:3]


def test_a_draw_is_the_same_for_each_worker_whatever_their_order() -> None:
    draw = drawn(PAIRS, 100, as_of_ms=7)
    assert drawn(PAIRS[::-1], 100, as_of_ms=7) == draw
    assert len(set(draw)) == 100
    assert set(draw) <= set(PAIRS)


def test_another_week_draws_others() -> None:
    assert drawn(PAIRS, 100, as_of_ms=7) != drawn(PAIRS, 100, as_of_ms=8)
