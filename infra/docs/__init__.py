"""Generate the parts of the documentation that repeat facts of the code: `python -m infra.docs`, a step of `make docs`.

A leaf: it may import any package, and no package imports it.
"""
