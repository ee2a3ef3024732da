"""Pages that need no log-in: the landing page and the track record. Plain HTML and SVG, without a script.

They read Postgres alone, through a cache, and write nothing.
"""
