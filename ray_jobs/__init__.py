"""Entry points that run on the Ray cluster: thin shells over `make_us_rich`."""
