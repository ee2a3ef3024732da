"""The dashboard: Dash for the pages, Flask-Login for who may see them.

app.py       puts it together                shell.py     header, menu, which page is shown
auth.py      log in, create an account       sessions.py  whose cookie it is, and when it ends
guard.py     nobody in without a log-in      limits.py    how often one may guess
callbacks.py what a callback may be sent      devices.py   browsers that were here before
problems.py  error pages                     figures.py   candles and the fan
pages/       one page a file                 __main__.py  serves it

It holds no model and no SQL: forecasts come through `make_us_rich.client`, accounts through `make_us_rich.accounts`.
"""
