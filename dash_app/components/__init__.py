"""Parts that several pages show: sections, tables, figures, notices, texts and number formats.

Imports `make_us_rich` for what is shown, and nothing of the pages or of `dash_app.security`.
"""
