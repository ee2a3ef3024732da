#!/bin/sh
# A role for each component, which owns one database and may not enter the others'. Run once by the Postgres image, and
# by hand where Postgres is given: PGHOST, PGUSER and PGPASSWORD of a role that may create others.
set -eu
make_role() { # ROLE DATABASE PASSWORD
  psql --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-${PGUSER:-postgres}}" --dbname=postgres \
    --set=role="$1" --set=database="$2" --set=password="$3" <<'SQL'
CREATE ROLE :"role" LOGIN PASSWORD :'password' NOSUPERUSER NOCREATEDB NOCREATEROLE;
GRANT :"role" TO CURRENT_USER;
CREATE DATABASE :"database" OWNER :"role";
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
SQL
}
make_role app make_us_rich "$APP_DB_PASSWORD"
make_role mlflow mlflow "$MLFLOW_DB_PASSWORD"
make_role airflow airflow "$AIRFLOW_DB_PASSWORD"
