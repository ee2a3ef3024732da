from __future__ import annotations

from make_us_rich.documents import Comparison
from make_us_rich.registry.promotion import decide


def _comparison(
    champion: int | None = 4,
    ours: float = 1.0e-3,
    theirs: float | None = 1.0e-3,
    t: float | None = None,
    t_vs_naive: float = 5.0,
) -> Comparison:
    return Comparison(
        champion_version=champion,
        challenger_pinball=ours,
        champion_pinball=theirs,
        t=t,
        naive_pinball=1.1e-3,
        t_vs_naive=t_vs_naive,
    )


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


def test_worse_than_naive_within_noise_is_promoted() -> None:
    assert decide(_comparison(champion=None, theirs=None, t_vs_naive=-1.9)).promoted


def test_worse_than_naive_beyond_noise_is_refused_even_as_the_first_or_against_an_expired_champion() -> None:
    first = decide(_comparison(champion=None, theirs=None, t_vs_naive=-2.1))
    better = decide(_comparison(ours=0.5e-3, t_vs_naive=-2.1), champion_expired=True)

    assert not first.promoted
    assert not better.promoted
    assert "naive" in first.reason
