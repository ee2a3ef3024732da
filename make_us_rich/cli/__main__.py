"""Makes `python -m make_us_rich.cli` the same as `mkrich`."""

from make_us_rich.cli import main

main()
