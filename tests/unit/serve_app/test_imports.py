from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "pandas", "mlflow")


def _run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_serving_runs_without_torch_pandas_and_mlflow() -> None:
    """They are made unimportable, because Ray Serve itself imports pandas where it is installed."""
    absent = f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r}))"
    assert _run(f"{absent}; import serve_app.app, make_us_rich.pipeline.deployment; print('fine')") == "fine"


def test_deploying_imports_no_ray() -> None:
    assert _run("import sys, make_us_rich.pipeline.deployment; print('ray' in sys.modules)") == "False"
