"""`python -m serve_app.deploy`: tell Ray Serve to run the present champions, and wait until they answer.

First registers the foundation that ships with the package, so that a new installation forecasts before it has trained.
"""

from __future__ import annotations

from make_us_rich.core.settings import get_settings
from make_us_rich.pipeline.deployment import apply
from make_us_rich.registry import shipped

if __name__ == "__main__":
    settings = get_settings()
    for name, decision in shipped.register(settings).items():
        print(f"{name} of the package: {decision.reason}")
    print(apply(settings))
