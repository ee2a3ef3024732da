#!/usr/bin/env bash
# With the stack of docker-compose.yml up: run the hourly DAG and get a forecast through the published port.
set -euo pipefail
set -a; . ./.env; set +a
AIRFLOW=http://127.0.0.1:${AIRFLOW_PORT:-8080}
API=http://127.0.0.1:${API_PORT:-8000}
DASH=http://127.0.0.1:${DASH_PORT:-8050}
field() { python3 -c "import json, sys; print(json.load(sys.stdin)['$1'])"; }
newest_run() { python3 -c "import json, sys; print(next((r['dag_run_id'] for r in json.load(sys.stdin)['dag_runs'] if r['state'] in ('queued', 'running')), ''))"; }
airflow() { curl -fsS -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' "$@"; }
tell_failures() { # the end of each failed task's log
  echo "run failed"
  airflow "$AIRFLOW/api/v2/dags/train_pairs/dagRuns/$RUN/taskInstances?state=failed" |
    python3 -c "import json, sys; [print(t['task_id'], t['map_index'], t['try_number']) for t in json.load(sys.stdin)['task_instances']]" |
    while read -r TASK INDEX TRY; do
      echo "--- $TASK [$INDEX], try $TRY"
      airflow "$AIRFLOW/api/v2/dags/train_pairs/dagRuns/$RUN/taskInstances/$TASK/logs/$TRY?map_index=$INDEX&full_content=true" | tail -c 3000
      echo
    done
}

TOKEN=$(curl -fsS -H 'Content-Type: application/json' "$AIRFLOW/auth/token" \
  -d "{\"username\": \"admin\", \"password\": \"$AIRFLOW_ADMIN_PASSWORD\"}" | field access_token)
for _ in $(seq 60); do airflow "$AIRFLOW/api/v2/dags/train_pairs" >/dev/null 2>&1 && break; sleep 1; done
airflow -X PATCH "$AIRFLOW/api/v2/dags/train_pairs" -d '{"is_paused": false}' >/dev/null
# unpausing a DAG for the first time starts the run of the last hour by itself
for _ in $(seq 10); do
  RUN=$(airflow "$AIRFLOW/api/v2/dags/train_pairs/dagRuns?limit=1&order_by=-run_after" | newest_run)
  [ -n "$RUN" ] && break
  sleep 1
done
[ -n "$RUN" ] || RUN=$(airflow "$AIRFLOW/api/v2/dags/train_pairs/dagRuns" -d '{"logical_date": null}' | field dag_run_id)
echo "run $RUN"
for _ in $(seq 300); do
  STATE=$(airflow "$AIRFLOW/api/v2/dags/train_pairs/dagRuns/$RUN" | field state)
  case $STATE in success) break ;; failed) tell_failures; exit 1 ;; esac
  sleep 2
done
[ "$STATE" = success ] || { echo "run still $STATE"; exit 1; }
curl -fsS --retry 30 --retry-all-errors --retry-delay 1 \
  -H "Authorization: Bearer $MUR_SERVICE_TOKEN" "$API/v1/forecasts/btc_usdt"
echo
curl -fsS -o /dev/null -w 'dashboard %{http_code}\n' "$DASH/login"
