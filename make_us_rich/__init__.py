"""Make Us Rich: cryptocurrency forecasts with honest uncertainty, trained and served automatically."""

__version__ = "0.1.0"
