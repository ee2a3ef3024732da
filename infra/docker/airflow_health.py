"""python -m infra.docker.airflow_health SERVICE: exit with 0 if Airflow's API server reports the service as healthy."""

from __future__ import annotations

import json
import sys
from urllib.request import urlopen

_URL = "http://airflow-api-server:8080/api/v2/monitor/health"

with urlopen(_URL, timeout=4) as answer:
    health = json.load(answer)
sys.exit(0 if health[sys.argv[1]]["status"] == "healthy" else 1)
