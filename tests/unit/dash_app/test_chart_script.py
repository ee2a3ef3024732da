"""The script that draws the charts: Plotly's bundle for prices, which `make install` fetches."""

from __future__ import annotations

import re

import brotli
from plotly.offline import get_plotlyjs_version

from dash_app.app import create_app
from make_us_rich.core.settings import Settings

ADDRESS = "/_dash-component-suites/plotly/package_data/plotly.min.js"


def test_the_charts_are_drawn_by_the_bundle_of_the_version_that_the_python_package_writes_for() -> None:
    browser = create_app(Settings()).server.test_client()

    with browser.get(ADDRESS, headers={"Accept-Encoding": "gzip, br"}) as compressed:
        script = brotli.decompress(compressed.data)
    assert (compressed.status_code, compressed.headers["Content-Encoding"]) == (200, "br")
    assert len(compressed.data) < 400_000
    assert compressed.mimetype == "text/javascript"
    assert "Accept-Encoding" in compressed.vary
    with browser.get(ADDRESS, headers={"Accept-Encoding": "identity"}) as plain:
        assert plain.data == script

    header = re.search(rb"plotly\.js \(finance - minified\) v(\d+\.\d+)", script)
    assert header is not None
    assert get_plotlyjs_version().startswith(header[1].decode() + ".")
