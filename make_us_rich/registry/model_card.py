"""The model card of the shipped foundation as Markdown: for the documentation, and for its version in MLflow."""

from __future__ import annotations

from collections.abc import Iterable

from make_us_rich.core.times import from_ms
from make_us_rich.documents import FoundationCard, FoundationScore

_BASELINES = {"naive": "naive", "ewma": "EWMA", "garch_t": "GARCH-t"}


def page(card: FoundationCard) -> str:
    """Return the card's page of the documentation."""
    title = "# Model card of the shipped foundation"
    note = (
        f"`{card.command}` writes this page with the files that it is about, "
        "`make_us_rich/registry/foundations/`. See [the shipped foundation]"
        "(../explanation/forecasting.md#the-shipped-foundation)."
    )
    return "\n\n".join((title, note, describe(card))) + "\n"


def describe(card: FoundationCard) -> str:
    """Return the card as Markdown paragraphs and tables, without a title."""
    windows = len(card.windows_from_ms)
    scored = f"{_day(card.windows_from_ms[0])} to {_day(card.windows_until_ms)}"
    return "\n\n".join(
        (
            f"**Use.** It forecasts the closes of {card.interval} candles of any pair until that pair has a model of "
            "its own, and fine-tuning starts from it until the installation has trained a foundation of its own. It is "
            "not fine-tuned on any pair.",
            f"**Data.** Candles of {len(card.pairs)} USDT pairs of Binance's spot market: "
            f"{_names(card.pairs)}. It was trained on closes from {_day(card.candles_from_ms)} on and has seen nothing "
            f"after {_day(card.as_of_ms)} 00:00 UTC. The last four weeks before were held out.",
            f"**Model.** Architecture `{card.architecture}`, digest `{card.digest}`. The recipe is that of "
            "`train_foundation`; its choices were made on windows of the years 2021 and 2022.",
            f"**Make it again.** `{card.command}`",
            f"**Scores.** Without fine-tuning, in {windows} consecutive windows, {scored}, all after its data. Skill "
            "is the pinball loss saved against the baseline, which the code that made this card fitted on earlier "
            "candles of the pair; t is the Diebold-Mariano statistic. Coverage is the share of closes inside the 80 % "
            "band.",
            *(_table(card, learned) for learned in (True, False)),
        )
    )


def _table(card: FoundationCard, learned: bool) -> str:
    scores = [score for score in card.scores if score.learned is learned]
    group = "Pairs that it learned from" if learned else "Pairs that it never saw"
    title = f"{group}: {_names(scores[0].pairs)} ({scores[0].windows} pair-windows)."
    header = ["candles ahead", *(f"vs {_BASELINES[item.baseline]} (t)" for item in scores[0].skills), "coverage"]
    rows = [header, ["---"] * len(header), *(_row(score) for score in scores)]
    return title + "\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(score: FoundationScore) -> list[str]:
    skills = [f"{item.skill:+.2%} ({item.t:+.1f})" for item in score.skills]
    return [str(score.horizon), *skills, f"{score.coverage_80:.1%}"]


def _names(pairs: Iterable[str]) -> str:
    return ", ".join(pair.partition("_")[0].upper() for pair in pairs)


def _day(time_ms: int) -> str:
    return f"{from_ms(time_ms):%Y-%m-%d}"
