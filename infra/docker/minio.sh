#!/bin/sh
# minio.sh COMMAND…: run MinIO with the admin's key, and make a key for each purpose, as s3.sh does for SeaweedFS.
set -eu
umask 077
export MINIO_ROOT_USER="$S3_ADMIN_ACCESS_KEY" MINIO_ROOT_PASSWORD="$S3_ADMIN_SECRET_KEY"
made="${KEYS_MADE:-/tmp/keys-made}"
rm -f "$made"
"$@" &
server=$!
trap 'kill -TERM "$server"' TERM INT
until mc alias set --quiet own http://127.0.0.1:8333 "$MINIO_ROOT_USER" "$MINIO_ROOT_PASSWORD" >/dev/null 2>&1; do
  kill -0 "$server"
  sleep 1
done
allow() { # NAME BUCKET ACCESS_KEY SECRET_KEY: reads and writes this bucket alone
  actions='"s3:GetObject","s3:PutObject","s3:DeleteObject","s3:GetObjectTagging","s3:PutObjectTagging","s3:ListBucket",'
  actions="$actions\"s3:GetBucketLocation\",\"s3:ListBucketMultipartUploads\",\"s3:AbortMultipartUpload\",\"s3:ListMultipartUploadParts\""
  printf '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":[%s],"Resource":["arn:aws:s3:::%s","arn:aws:s3:::%s/*"]}]}' \
    "$actions" "$2" "$2" > "$made.$1"
  mc admin policy create own "$1" "$made.$1" >/dev/null
  mc admin user add own "$3" "$4" >/dev/null
  mc admin policy attach own "$1" --user "$3" >/dev/null 2>&1 || true # refused where it is attached already
}
allow candles "${S3_CANDLES_BUCKET:-candles}" "$S3_ACCESS_KEY" "$S3_SECRET_KEY"
allow mlflow "${S3_MLFLOW_BUCKET:-mlflow}" "$S3_MLFLOW_ACCESS_KEY" "$S3_MLFLOW_SECRET_KEY"
touch "$made"
wait "$server" || wait "$server" # a signal ends the first
