"""The dashboard: Dash for the pages, Flask-Login for who may see them.

app.py      puts it together            auth.py     log in, create an account, log out
guard.py    nobody in without a log-in  figures.py  candles and the fan
pages/      one page a file             wsgi.py     for gunicorn

It holds no model and no SQL: forecasts come through `make_us_rich.client`, accounts through `make_us_rich.accounts`.
"""
