"""The pages of the documentation that are made from the code: `python -m infra.docs`, a part of `make docs`."""
