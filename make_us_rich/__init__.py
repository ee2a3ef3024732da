"""Make Us Rich: cryptocurrency forecasts with honest uncertainty, trained and served automatically."""
