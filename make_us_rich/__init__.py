"""Make Us Rich: cryptocurrency forecasts with honest uncertainty, trained and served automatically."""

__version__ = "1.0.0.dev0"
