"""Models: the registered versions of a pair, why each was promoted or refused, and its training run."""

from dash_app.pages import Page
from dash_app.pages.models import callbacks, layout

PAGE = Page("/models", "Models", layout.layout, callbacks.callbacks, has_tables=True)
