"""The routes of the pages that need no log-in, unless MUR_PUBLIC_PAGES is off."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date

from flask import Blueprint, Flask, abort, make_response, render_template, request
from flask_login import current_user
from werkzeug.wrappers import Response

from dash_app.cache import Cache
from dash_app.components.entries import pair_slug
from dash_app.components.formatting import change, duration, pair_label, percent, price, utc_time
from dash_app.public import charts
from dash_app.public.picture import share_picture
from dash_app.public.request_limit import RequestLimit
from dash_app.records import ForecastRecords, Live
from dash_app.security.login import LoginForm
from make_us_rich.core.errors import InputError
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.database.forecasts import ServedForecast
from make_us_rich.documents import HORIZON_GRID

PUBLIC_PATHS = ("/track-record", "/share", "/embed")
"""Beside the landing page, which strangers see at /."""

# Nothing but our own styles and pictures; no script at all.
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors {}"
)
_HORIZONS = {str(horizon): horizon for horizon in HORIZON_GRID}
_SHOWN_DAYS = 7
_SHOWN_MODELS = 20
_PICTURE_S = 300.0
_MARKETS = {
    "binance": "",
    "recorded": "Prices are a recording that is replayed at today's dates.",
    "simulated": "Prices are simulated.",
}


@dataclass(frozen=True)
class Choice:
    """What a visitor chose to see."""

    pair: Pair
    interval: Interval
    horizon: int

    def link(self, **changed: object) -> str:
        """Return the address of the track record with this choice, some of it changed."""
        chosen = {"pair": self.pair, "interval": self.interval, "horizon": self.horizon} | changed
        return "/track-record?" + "&".join(f"{name}={value}" for name, value in chosen.items())


class PublicPages:
    """The pages of one dashboard. `landing` is shown at / to visitors who are not logged in."""

    def __init__(self, settings: Settings, records: ForecastRecords) -> None:
        self._settings, self._records = settings, records
        self._limit, self._pictures = RequestLimit(), Cache()

    def install(self, server: Flask) -> None:
        """Add the routes."""
        routes = Blueprint("public", __name__)
        routes.before_request(self._limit.check)
        routes.add_url_rule("/track-record", "track_record", self._track_record)
        routes.add_url_rule("/track-record/log/index.csv", "log_index", self._log_index)
        routes.add_url_rule("/track-record/log/<day>.<kind>", "log_file", self._log_file)
        routes.add_url_rule("/share/<name>.png", "share", self._share)
        routes.add_url_rule("/embed/<name>", "embed", self._embed)
        server.register_blueprint(routes)

    def landing(self) -> Response:
        """Say what this is, with a live picture, the record so far, and the forms to log in and to sign up."""
        self._limit.check()
        interval = self._settings.default_interval
        pairs = self._records.pairs()
        live = next((found for pair in pairs if (found := self._records.live(pair, interval))), None)
        shown = Choice(live.pair if live else pairs[0] if pairs else self._settings.pairs[0], interval, 1)
        record = self._records.record(shown.pair, interval, shown.horizon)
        series = [each for each in self._records.series() if each.interval == interval]
        target = request.full_path.rstrip("?")
        return self._page(
            "public/landing.html",
            live=self._live(live) if live else None,
            record=record,
            choice=shown,
            total=sum(each.n for each in series),
            pair_count=len(series),
            first_score=self._records.first_score(shown.pair, interval, 1) if record is None else None,
            form=LoginForm(),
            next=target if target != "/" else "",
        )

    def _track_record(self) -> Response:
        pairs = self._records.pairs()
        chosen = self._choice(pairs)
        record = self._records.record(chosen.pair, chosen.interval, chosen.horizon)
        live = self._records.live(chosen.pair, chosen.interval)
        first_score = self._records.first_score(chosen.pair, chosen.interval, chosen.horizon)
        return self._page(
            "public/track_record.html",
            choice=chosen,
            pairs=pairs,
            intervals=self._settings.intervals,
            horizons=HORIZON_GRID,
            record=record,
            shown_models=_SHOWN_MODELS,
            live=self._live(live) if live else None,
            first_score=first_score if record is None else None,
            log_days=self._records.log_days()[:_SHOWN_DAYS],
        )

    def _log_index(self) -> Response:
        """Return the published days, oldest first, with the hashes that form the chain."""
        names = ("day", "forecasts", "csv_sha256", "parquet_sha256", "previous", "chain", "published_at")
        lines = [
            ",".join(str(getattr(each, name)) for name in names[:-1]) + f",{each.published_at.astimezone(UTC):%FT%TZ}"
            for each in reversed(self._records.log_days())
        ]
        return Response("\n".join([",".join(names), *lines, ""]), mimetype="text/csv")

    def _log_file(self, day: str, kind: str) -> Response:
        """Return the log of a day. Answers 404 for a day that is not published."""
        try:
            content = self._records.log_file(date.fromisoformat(day), kind)
        except ValueError:
            abort(404)
        if content is None:
            abort(404)
        mimetype = "text/csv" if kind == "csv" else "application/vnd.apache.parquet"
        return Response(content, mimetype=mimetype, headers={"Content-Disposition": f"inline; filename={day}.{kind}"})

    def _share(self, name: str) -> Response:
        """Return the picture of a pair's newest forecast. Answers 404 for a pair without one."""
        live, note = self._live_of(name), _MARKETS[self._settings.market]
        key = (live.pair, live.newest.as_of_ms, *live.newest.prices[-1])
        picture = self._pictures.get(key, lambda: share_picture(live, note), ttl_s=_PICTURE_S)
        return Response(picture, mimetype="image/png")

    def _embed(self, name: str) -> Response:
        """Return a page for frames of other sites, which may frame this page alone."""
        return self._page("public/embed.html", frames="*", live=self._live(self._live_of(name)))

    def _live_of(self, name: str) -> Live:
        try:
            pair = Pair.parse(name)
        except InputError:
            abort(404)
        live = self._records.live(pair, self._settings.default_interval) if pair in self._records.pairs() else None
        return live or abort(404)

    def _choice(self, pairs: list[Pair]) -> Choice:
        """Read the query of the address. Answers 404 for what is not forecast here."""
        try:
            interval = self._settings.forecast_interval(request.args.get("interval"))
            default = pairs[0] if pairs else self._settings.pairs[0]
            pair = Pair.parse(pair_slug(request.args["pair"])) if "pair" in request.args else default
            horizon = _HORIZONS.get(request.args.get("horizon", "1"), 0)
        except InputError:
            abort(404)
        if horizon not in HORIZON_GRID or (pairs and pair not in pairs):
            abort(404)
        return Choice(pair, interval, horizon)

    def _live(self, live: Live) -> dict[str, object]:
        """Return the picture of a forecast, with its sentence, for a template."""
        newest, step = live.newest, live.interval.ms
        sentence = _sentence(newest, step)
        label = f"{pair_label(live.pair)}: last close {price(newest.last_close)}, then {sentence}"
        return {
            "pair": live.pair,
            "chart": charts.fan(live.past, step, label),
            "narrow_chart": charts.fan(live.past, step, label, narrow=True),
            "sentence": sentence,
            "last_close": price(newest.last_close),
            "as_of": utc_time(newest.as_of_ms),
            "is_stale": live.is_stale,
            "counted": _sentence(live.counted, step) if live.is_replaced else "",
        }

    def _page(self, template: str, *, frames: str = "'none'", **values: object) -> Response:
        page = render_template(
            template,
            charts=charts,
            pair_label=pair_label,
            price=price,
            percent=percent,
            change=change,
            duration=duration,
            utc_time=utc_time,
            market_note=_MARKETS[self._settings.market],
            is_member=current_user.is_authenticated,
            site=self._settings.dashboard_url,
            path=request.full_path.rstrip("?"),
            **values,
        )
        response: Response = make_response(page)
        response.headers["Content-Security-Policy"] = _POLICY.format(frames)
        return response


def _sentence(forecast: ServedForecast, step_ms: int) -> str:
    low, high = forecast.prices[-1][1], forecast.prices[-1][5]
    return f"80 % chance of {price(low)} to {price(high)} in {duration(len(forecast.prices) * step_ms)}"
