#!/usr/bin/env bash
# After `docker compose up --wait` of a new installation: wait for the run that Airflow starts by itself, and get a forecast
# through the published port.
set -euo pipefail
. infra/docker/airflow_api.sh
newest_run() { python3 -c "import json, sys; print(next((r['dag_run_id'] for r in json.load(sys.stdin)['dag_runs']), ''))"; }
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

RUN=
for _ in $(seq 120); do
  RUN=$(airflow "$AIRFLOW/api/v2/dags/train_pairs/dagRuns?limit=1&order_by=-run_after" 2>/dev/null | newest_run 2>/dev/null || true)
  [ -n "$RUN" ] && break
  sleep 1
done
[ -n "$RUN" ] || { echo "Airflow started no run of train_pairs by itself within two minutes"; exit 1; }
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
