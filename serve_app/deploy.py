"""`python -m serve_app.deploy`: tell Ray Serve to run the present champions, and wait until they answer."""

from __future__ import annotations

from make_us_rich.core.settings import get_settings
from make_us_rich.operations.serve_deploy import apply

if __name__ == "__main__":
    print(apply(get_settings()))
