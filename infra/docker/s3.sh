#!/bin/sh
# s3.sh COMMAND…: write SeaweedFS's keys into S3_CONFIG, then run it. A key for each purpose: candles and job results,
# MLflow's artifacts, and one that makes the buckets.
set -eu
umask 077
identity() { # NAME ACCESS_KEY SECRET_KEY ACTIONS
  printf '{"name":"%s","credentials":[{"accessKey":"%s","secretKey":"%s"}],"actions":[%s]}' "$1" "$2" "$3" "$4"
}
of() { printf '"Read:%s","List:%s","Tagging:%s","Write:%s"' "$1" "$1" "$1" "$1"; }
{
  printf '{"identities":['
  identity candles "$S3_ACCESS_KEY" "$S3_SECRET_KEY" "$(of "${S3_CANDLES_BUCKET:-candles}")"
  printf ','
  identity mlflow "$S3_MLFLOW_ACCESS_KEY" "$S3_MLFLOW_SECRET_KEY" "$(of "${S3_MLFLOW_BUCKET:-mlflow}")"
  printf ','
  identity admin "$S3_ADMIN_ACCESS_KEY" "$S3_ADMIN_SECRET_KEY" '"Admin","Read","List","Tagging","Write"'
  printf ']}'
} > "${S3_CONFIG:-/tmp/s3.json}"
# S3's gRPC port listens where S3 does, and without this key anybody could add an identity there. Only weed itself needs it.
WEED_JWT_FILER_SIGNING_KEY=$(head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n')
export WEED_JWT_FILER_SIGNING_KEY
exec "$@"
