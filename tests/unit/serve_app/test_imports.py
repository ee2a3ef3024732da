from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "pandas", "mlflow")


def test_a_replica_imports_nothing_heavy() -> None:
    program = (
        "import sys, serve_app.app, serve_app.deploy;"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_deploying_needs_no_ray() -> None:
    program = "import sys, serve_app.deploy; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
