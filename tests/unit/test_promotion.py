"""The promotion rules, one comparison of a challenger and a champion for each."""

from __future__ import annotations

import pytest

from make_us_rich.documents import Comparison, MeanLosses
from make_us_rich.registry.promotion import PromotionDecision, decide


def _comparison(
    champion: int | None = 4,
    ours: float = 1.0e-3,
    theirs: float | None = 1.0e-3,
    t: float | None = None,
    t_vs_naive: float = 5.0,
    **others: object,
) -> Comparison:
    """Return a comparison of models of one horizon, as of two of level_mse, unless `others` say more."""
    one_horizon = {"skill_vs_naive": 0.05, "mean": None, "challenger_horizons": 1, "champion_horizons": 1}
    return Comparison(
        champion_version=champion,
        challenger_pinball=ours,
        champion_pinball=theirs,
        t=t,
        naive_pinball=1.1e-3,
        t_vs_naive=t_vs_naive,
        **one_horizon | others,
    )


def _decide(mean: tuple[float, float], t_next_close: float, *, expired: bool = False) -> PromotionDecision:
    """Decide on models of 24 horizons with these mean losses, of challenger and champion."""
    losses = MeanLosses(horizons=9, challenger=mean[0], champion=mean[1], t=1.7)
    compared = _comparison(
        ours=1.003e-3, t=t_next_close, mean=losses, skill_vs_naive=0.05, challenger_horizons=24, champion_horizons=24
    )
    return decide(compared, champion_expired=expired)


def test_the_first_model_of_a_pair_is_promoted() -> None:
    assert decide(_comparison(champion=None, theirs=None)).promoted


def test_a_better_challenger_is_promoted_with_the_figures() -> None:
    decision = decide(_comparison(ours=0.99e-3, t=2.5))

    assert decision.promoted
    assert "+1.00%" in decision.reason
    assert "version 4" in decision.reason
    assert "+2.5" in decision.reason


def test_a_worse_challenger_is_refused() -> None:
    decision = decide(_comparison(ours=1.01e-3, t=-0.4))

    assert not decision.promoted
    assert "not better" in decision.reason


def test_a_worse_challenger_replaces_an_expired_champion() -> None:
    decision = decide(_comparison(ours=1.01e-3, t=-0.4), champion_expired=True)

    assert decision.promoted
    assert "past its expiry" in decision.reason


def test_better_in_the_mean_and_no_worse_at_the_next_close_beyond_noise_is_promoted_with_both_figures() -> None:
    decision = _decide((0.9405, 0.9500), -1.9)

    assert decision.promoted
    assert decision.reason == (
        "+1.00% in the mean over 9 horizons (0.9405 of naive's loss against 0.9500, Diebold-Mariano t +1.7); "
        "-0.30% at the next close (held-out pinball 1.003e-03 against 1.000e-03, Diebold-Mariano t -1.9); "
        "compared with version 4"
    )


def test_as_good_in_the_mean_is_promoted() -> None:
    assert _decide((0.95, 0.95), 0.0).promoted


def test_worse_in_the_mean_is_refused_however_good_the_next_close_is() -> None:
    decision = _decide((0.9501, 0.9500), 4.0)

    assert not decision.promoted
    assert decision.reason.startswith("not better in the mean over the horizons: -0.01% in the mean")


def test_worse_at_the_next_close_beyond_noise_is_refused_however_good_the_mean_is() -> None:
    decision = _decide((0.90, 0.95), -2.0)

    assert not decision.promoted
    assert decision.reason.startswith("worse at the next close beyond noise: +5.26% in the mean")


@pytest.mark.parametrize(("mean", "t"), [((0.96, 0.95), 1.0), ((0.94, 0.95), -3.0)])
def test_either_objection_gives_way_when_the_champion_is_expired(mean: tuple[float, float], t: float) -> None:
    decision = _decide(mean, t, expired=True)

    assert decision.promoted
    assert "past its expiry" in decision.reason


def test_more_horizons_replace_one_unless_they_are_worse_at_the_next_close_beyond_noise() -> None:
    within = decide(_comparison(ours=1.01e-3, t=-1.9, skill_vs_naive=0.05, challenger_horizons=24))
    beyond = decide(_comparison(ours=1.05e-3, t=-2.1, skill_vs_naive=0.05, challenger_horizons=24))

    assert within.promoted
    assert within.reason.startswith("it forecasts 24 horizons, the champion 1; -1.00% at the next close")
    assert not beyond.promoted
    assert "worse at the next close beyond noise" in beyond.reason


def test_fewer_horizons_do_not_replace_more() -> None:
    decision = decide(_comparison(ours=0.5e-3, t=9.0, champion_horizons=24))

    assert not decision.promoted
    assert "it forecasts fewer horizons, 1 instead of 24" in decision.reason


def test_worse_than_naive_within_noise_is_promoted() -> None:
    assert decide(_comparison(champion=None, theirs=None, t_vs_naive=-1.9)).promoted


def test_worse_than_naive_beyond_noise_is_refused_even_as_the_first_or_against_an_expired_champion() -> None:
    first = decide(_comparison(champion=None, theirs=None, t_vs_naive=-2.1, skill_vs_naive=-0.031))
    better = decide(_comparison(ours=0.5e-3, t_vs_naive=-2.1), champion_expired=True)

    assert not first.promoted
    assert not better.promoted
    assert "naive" in first.reason
    assert "skill -3.10% in the mean over the horizons, Diebold-Mariano t -2.1" in first.reason
    assert "5.000e-04 against 1.100e-03" in better.reason
