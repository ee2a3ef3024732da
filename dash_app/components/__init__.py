"""Parts of pages: figures, tables, notices, and how values are formatted.

Imports `make_us_rich`; knows no page.
"""
