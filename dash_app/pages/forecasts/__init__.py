"""Forecasts: the distribution of one pair's coming closes, with the record of its model."""

from dash_app.pages import Page
from dash_app.pages.forecasts import callbacks, layout

PAGE = Page("/", "Forecasts", layout.layout, callbacks.callbacks)
