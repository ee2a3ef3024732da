#!/usr/bin/env bash
# After smoke.sh, with COMPOSE_PROFILES=workers: two worker containers, of which the one that trains is killed in the middle of a
# run. Fails unless the run trains and promotes every pair, and every call meanwhile is answered with 200 or 503.
set -euo pipefail
. infra/docker/airflow_api.sh
forecast() { curl -s -o /dev/null -m 60 -w '%{http_code}\n' -H "Authorization: Bearer $MUR_SERVICE_TOKEN" "$API/v1/forecasts/$1"; }
ANSWERS=$(mktemp)
docker compose up --detach --no-build --no-recreate --scale ray-worker=2 ray-worker
while :; do forecast btc_usdt; sleep 0.2; done > "$ANSWERS" &
CALLER=$!
trap 'kill $CALLER' EXIT

AS_OF=$(date -u -d '3 hours ago' +%Y-%m-%dT%H:00:00+00:00)
RUN=$(airflow "$AIRFLOW/api/v2/dags/train_pairs/dagRuns" -d "{\"logical_date\": null, \"conf\": {\"as_of\": \"$AS_OF\"}}" | field dag_run_id)
TRAINING=
for _ in $(seq 300); do
  for WORKER in $(docker compose ps --quiet ray-worker); do
    docker top "$WORKER" | grep -q RayTrainWorker && TRAINING=$WORKER
  done
  [ -n "$TRAINING" ] && break
  sleep 0.5
done
[ -n "$TRAINING" ] || { echo "no worker container trained within $((300 / 2)) s"; exit 1; }
sleep 5 # it imports torch, then trains
# not by docker kill, after which Docker does not start it again
kill -9 "$(docker inspect --format '{{.State.Pid}}' "$TRAINING")"
echo "killed $(docker inspect --format '{{.Name}}' "$TRAINING")"
SECONDS=0
for _ in $(seq 300); do
  STATE=$(airflow "$AIRFLOW/api/v2/dags/train_pairs/dagRuns/$RUN" | field state)
  case $STATE in success | failed) break ;; esac
  sleep 2
done
echo "run $STATE $SECONDS s after the kill; answers of the API:"
sort "$ANSWERS" | uniq -c
[ "$STATE" = success ]
! grep -qvE '^(200|503)$' "$ANSWERS"
