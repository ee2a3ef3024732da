from __future__ import annotations

from make_us_rich.promotion import Comparison, decide


def test_the_first_model_of_a_pair_is_promoted() -> None:
    assert decide(Comparison(None, 1.0e-3, None, None)).promoted


def test_a_better_challenger_is_promoted_with_the_figures() -> None:
    decision = decide(Comparison(4, 0.99e-3, 1.00e-3, 2.5))

    assert decision.promoted
    assert "+1.00%" in decision.reason
    assert "version 4" in decision.reason
    assert "+2.5" in decision.reason


def test_a_worse_challenger_is_refused() -> None:
    decision = decide(Comparison(4, 1.01e-3, 1.00e-3, -0.4))

    assert not decision.promoted
    assert "not better" in decision.reason
