"""The coming 24 closes in a real browser: the fan, the choice of a horizon, probabilities, models of one horizon."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from dash_app.components.formatting import price, probability
from make_us_rich.client import Client
from make_us_rich.documents import HORIZONS, Forecast
from tests.support.browser import ARTIFACTS, PASSWORD, PHONE, horizontal_overflow_px, log_in
from tests.support.dashboard_servers import DashboardServers, dashboard_servers

pytestmark = pytest.mark.timeout(300)

SLOW_MS = 30_000
PAIRS, OLD = ("btc_usdt", "chz_usdt", "ltc_usdt"), "ltc_usdt"
_FIGURE = """() => {
    const plot = document.querySelector("#chart .js-plotly-plot");
    const fan = plot.data.find((trace) => trace.name === "fan");
    const line = plot.layout.shapes.find((shape) => shape.x0 === shape.x1);
    return {
        fan: {x: [...fan.x], base: [...fan.base]},
        line: line.x0,
        labels: plot.layout.annotations.map((label) => label.text),
        range: plot._fullLayout.xaxis.range,
    };
}"""
# Where the fan is at one horizon, in pixels of the window.
_POINT = """(horizon) => {
    const plot = document.querySelector("#chart .js-plotly-plot");
    const fan = plot.data.find((trace) => trace.name === "fan");
    const {xaxis, yaxis} = plot._fullLayout;
    const box = plot.getBoundingClientRect();
    const index = horizon - 1;
    return [
        box.left + xaxis._offset + xaxis.d2p(fan.x[index]),
        box.top + yaxis._offset + yaxis.d2p(fan.base[index] + 0.4 * fan.y[index]),
    ];
}"""
# Of the labels that are shown: Plotly hides the last time of the axis where it does not fit, as at midnight.
_BOXES = """(selector) => {
    const shown = [...document.querySelectorAll(selector)].filter((text) => text.checkVisibility());
    return shown.map((text) => {
        const {left, right, top, bottom} = text.getBoundingClientRect();
        return {text: text.textContent, left, right, top, bottom};
    });
}"""


@pytest.fixture(scope="module")
def dashboard(folder: Path) -> Iterator[DashboardServers]:
    with dashboard_servers(folder, PAIRS, old_models=[OLD]) as servers:
        servers.accounts.users.create("reader", PASSWORD)
        yield servers


def _open(page: Page, dashboard: DashboardServers, pair: str = "btc_usdt") -> Forecast:
    """Show a pair's chart and return its forecast as the API gives it."""
    log_in(page, dashboard.url, "reader", f"/?pair={pair}")
    expect(page.locator("#chart .annotation-text").first).to_be_visible(timeout=SLOW_MS)
    with Client(dashboard.settings.api_url, dashboard.settings.dashboard_token.get_secret_value()) as client:
        return client.forecast(pair)


def _expect_horizon(page: Page, forecast: Forecast, horizon: int) -> None:
    """Expect sentence, line and labels of one horizon."""
    item = forecast.at(horizon)
    low, high = price(item.quantiles["q10"]), price(item.quantiles["q90"])
    sentence = f"({horizon} h ahead): {low} to {high} USDT with 80 % probability"
    expect(page.locator("#reading")).to_contain_text(sentence, timeout=SLOW_MS)
    expect(page.locator("#chart .annotation-text").nth(0)).to_have_text(high)
    expect(page.locator("#chart .annotation-text").nth(1)).to_have_text(low)
    figure = page.evaluate(_FIGURE)
    assert figure["line"] == figure["fan"]["x"][horizon - 1]


def test_fan_labels_and_probability_show_the_24_closes_of_the_api(page: Page, dashboard: DashboardServers) -> None:
    forecast = _open(page, dashboard)

    expect(page.locator("#interval")).to_be_hidden()  # the installation has one interval
    _expect_the_fan(page, forecast)
    _expect_no_overlapping_labels(page, forecast)
    _expect_the_probability_above_a_price(page, forecast)


def _expect_the_fan(page: Page, forecast: Forecast) -> None:
    fan = page.evaluate(_FIGURE)["fan"]
    assert fan["base"] == pytest.approx([item.quantiles["q05"] for item in forecast.horizons])
    assert len(fan["x"]) == HORIZONS
    page.screenshot(path=ARTIFACTS / "fan.png", full_page=True)

    page.locator("#chart").scroll_into_view_if_needed()
    page.mouse.move(*page.evaluate(_POINT, 16))
    quantiles = forecast.at(16).quantiles
    between = f"80 % between {price(quantiles['q10'])} and {price(quantiles['q90'])}"
    expect(page.locator("#chart .hovertext")).to_contain_text("16 h ahead")
    expect(page.locator("#chart .hovertext")).to_contain_text(between)


def _expect_the_probability_above_a_price(page: Page, forecast: Forecast) -> None:
    answer = page.locator("#probability")
    expect(answer).to_contain_text("Enter a price above 0")
    above = round(forecast.last_close * 1.01, 2)
    page.fill("#above", str(above))
    for key, horizon in (("Home", 1), ("End", HORIZONS)):
        page.get_by_role("slider", name="horizon").press(key)
        expected = probability(1 - forecast.at(horizon).probability_below(above))
        expect(answer).to_have_text(f"{expected} that the close {horizon} h ahead is above {price(above)} USDT")

    for wrong in ("0", "-5", "", "-"):
        page.fill("#above", wrong)
        expect(answer).to_contain_text("Enter a price above 0")
        page.fill("#above", str(above))
        expect(answer).to_contain_text("that the close")
    expect(page.locator("#connection")).to_have_count(0)  # no request failed

    page.click("#pair")
    page.get_by_role("option", name="CHZ / USDT").click()
    expect(answer).to_contain_text("Enter a price above 0", timeout=SLOW_MS)


def test_the_slider_chooses_the_horizon_without_asking_the_service_and_is_remembered(
    page: Page, dashboard: DashboardServers
) -> None:
    forecast = _open(page, dashboard)
    _expect_horizon(page, forecast, 8)
    x, y = page.evaluate(_POINT, 4)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 150, y, steps=4)
    page.mouse.up()
    moved = page.evaluate(_FIGURE)["range"]

    asked: set[str] = set()

    def note(request: Request) -> None:
        if "_dash-update-component" in request.url and request.post_data_json["changedPropIds"] == ["horizon.value"]:
            asked.add(request.post_data_json["output"])

    page.on("request", note)
    thumb = page.get_by_role("slider", name="horizon")
    thumb.press("ArrowRight")
    _expect_horizon(page, forecast, 9)
    thumb.press("End")
    _expect_horizon(page, forecast, HORIZONS)
    assert page.evaluate(_FIGURE)["range"] == moved  # the reader's zoom stays
    served, output = sorted(asked, reverse=True)  # only texts are read out from what the browser has
    assert (served, output.partition("...")[0]) == ("served-record.children", "..reading.children")
    assert "drawing" not in output

    page.reload()
    expect(page.locator("#chart .annotation-text").first).to_be_visible(timeout=SLOW_MS)
    _expect_horizon(page, forecast, HORIZONS)
    page.click("#pair")
    page.get_by_role("option", name="CHZ / USDT").click()
    expect(page.locator("#reading")).to_contain_text("(24 h ahead)", timeout=SLOW_MS)
    expect(page.get_by_role("slider", name="horizon")).to_have_attribute("aria-valuenow", "24")


def test_a_horizon_outside_the_zoomed_view_is_brought_back_into_it(page: Page, dashboard: DashboardServers) -> None:
    forecast = _open(page, dashboard)
    _expect_horizon(page, forecast, 8)
    thumb = page.get_by_role("slider", name="horizon")
    thumb.press("Home")
    _expect_horizon(page, forecast, 1)
    before = page.evaluate(_FIGURE)
    whole, fourth = before["range"], before["fan"]["x"][3]
    plot = "document.querySelector('#chart .js-plotly-plot')"
    page.evaluate(f"(range) => Plotly.relayout({plot}, {{'xaxis.range': range}})", [whole[0], fourth])

    thumb.press("ArrowRight")
    _expect_horizon(page, forecast, 2)
    zoomed = page.evaluate(_FIGURE)["range"]
    assert zoomed[1] < before["fan"]["x"][4], "the close 2 h ahead can be seen, so the reader's zoom stays"

    thumb.press("End")
    _expect_horizon(page, forecast, HORIZONS)
    figure = page.evaluate(_FIGURE)
    assert figure["range"] == whole
    assert whole[0] < figure["line"] < whole[1]


def test_a_model_of_an_older_version_shows_one_step_and_says_so(page: Page, dashboard: DashboardServers) -> None:
    forecast = _open(page, dashboard, OLD)

    assert len(forecast.horizons) == 1
    assert len(page.evaluate(_FIGURE)["fan"]["x"]) == 1
    expect(page.get_by_text("forecasts the next close alone")).to_be_visible()
    expect(page.locator("#reading")).to_contain_text("(1 h ahead)")
    expect(page.locator("#horizon")).to_be_hidden()
    page.screenshot(path=ARTIFACTS / "old-model.png", full_page=True)

    page.click("#pair")
    page.get_by_role("option", name="BTC / USDT").click()
    expect(page.locator("#reading")).to_contain_text("(8 h ahead)", timeout=SLOW_MS)
    expect(page.locator("#horizon")).to_be_visible()


def test_no_label_of_the_chart_overlaps_another_on_a_phone(browser: Browser, dashboard: DashboardServers) -> None:
    context = browser.new_context(viewport=PHONE, has_touch=True)
    page = context.new_page()
    _expect_no_overlapping_labels(page, _open(page, dashboard))
    page.screenshot(path=ARTIFACTS / "fan-phone.png", full_page=True)
    context.close()


def _expect_no_overlapping_labels(page: Page, forecast: Forecast) -> None:
    for key, horizon in (("Home", 1), ("End", HORIZONS)):
        page.get_by_role("slider", name="horizon").press(key)
        _expect_horizon(page, forecast, horizon)
        boxes = page.evaluate(
            _BOXES, "#chart .annotation-text, #chart .xtick text, #chart .x2tick text, #chart .ytick text, .legendtext"
        )
        assert len(boxes) > 10
        assert [pair for pair in combinations(boxes, 2) if _overlap(*pair)] == []
        plot = page.locator("#chart").bounding_box()
        assert plot is not None
        left, right = plot["x"], plot["x"] + plot["width"]
        assert [box for box in boxes if box["left"] < left or box["right"] > right] == []
        assert horizontal_overflow_px(page) <= 0


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    apart = one["right"] <= other["left"] or other["right"] <= one["left"]
    return not (apart or one["bottom"] <= other["top"] or other["bottom"] <= one["top"])
