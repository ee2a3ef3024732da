"""Parts that several pages show: sections, tables, figures, notices, and formats of numbers and times.

Imports `make_us_rich` for what is shown, and nothing of the pages or of `dash_app.security`.
"""
