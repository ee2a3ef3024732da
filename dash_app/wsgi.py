"""gunicorn dash_app.wsgi:server"""

from __future__ import annotations

from dash_app.app import create_app
from make_us_rich.settings import get_settings

app = create_app(get_settings())
server = app.server
