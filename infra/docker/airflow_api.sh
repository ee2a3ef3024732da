# For scripts that call the containers' published ports, in the project's folder: AIRFLOW, API, DASH, and `airflow`, which is
# curl with the admin's token.
set -a; . ./.env; set +a
AIRFLOW=http://127.0.0.1:${AIRFLOW_PORT:-8080}
API=http://127.0.0.1:${API_PORT:-8000}
DASH=http://127.0.0.1:${DASH_PORT:-8050}
field() { python3 -c "import json, sys; print(json.load(sys.stdin)['$1'])"; }
airflow() { curl -fsS -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' "$@"; }
TOKEN=$(curl -fsS -H 'Content-Type: application/json' "$AIRFLOW/auth/token" \
  -d "{\"username\": \"admin\", \"password\": \"$AIRFLOW_ADMIN_PASSWORD\"}" | field access_token)
