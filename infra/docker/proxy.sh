#!/bin/sh
# proxy.sh: fill in the nginx.conf beside it from the environment, and run nginx.
#   PROXY_DASH, PROXY_API, PROXY_AIRFLOW, PROXY_GRAFANA, PROXY_PGADMIN   where the services are
#   PROXY_TRUSTED       networks of other proxies in front, space separated; their X-Forwarded-For and -Proto are believed
#   PROXY_API_RATE      API calls a second that one address may make
#   PROXY_CERTIFICATE, PROXY_KEY   files in PEM; TLS on every port once the first has content
#   PROXY_FOLDER, PROXY_RESOLVER, PROXY_..._PORT   for tests
set -eu
umask 077
FOLDER=${PROXY_FOLDER:-/tmp/nginx}
CERTIFICATE=${PROXY_CERTIFICATE:-/run/tls/certificate.pem}
KEY=${PROXY_KEY:-/run/tls/key.pem}
mkdir -p "$FOLDER"

SSL='' TLS=''
if [ -s "$CERTIFICATE" ]; then
  [ -r "$KEY" ] && [ -s "$KEY" ] || { echo "TLS_KEY: $KEY cannot be read by user $(id -u), or is empty" >&2; exit 1; }
  SSL=' ssl http2'
  TLS="ssl_certificate $CERTIFICATE; ssl_certificate_key $KEY; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:tls:10m;"
fi
TRUSTED_GEO='' TRUSTED_REAL_IP=''
for network in ${PROXY_TRUSTED:-}; do
  TRUSTED_GEO="$TRUSTED_GEO $network 1;"
  TRUSTED_REAL_IP="$TRUSTED_REAL_IP set_real_ip_from $network;"
done
RESOLVER=${PROXY_RESOLVER:-$(sed -n 's/^nameserver  *//p' /etc/resolv.conf | head -n 1)}

fill() { # NAME VALUE
  printf 's|@%s@|%s|g\n' "$1" "$2"
}
{
  fill FOLDER "$FOLDER"
  fill SSL "$SSL"
  fill TLS "$TLS"
  fill TRUSTED_GEO "$TRUSTED_GEO"
  fill TRUSTED_REAL_IP "$TRUSTED_REAL_IP"
  fill RESOLVER "$RESOLVER"
  fill API_RATE "${PROXY_API_RATE:-50}"
  fill CHECK_PORT "${PROXY_CHECK_PORT:-8081}"
  fill DASH_PORT "${PROXY_DASH_PORT:-8050}"
  fill API_PORT "${PROXY_API_PORT:-8000}"
  fill AIRFLOW_PORT "${PROXY_AIRFLOW_PORT:-8080}"
  fill GRAFANA_PORT "${PROXY_GRAFANA_PORT:-3000}"
  fill PGADMIN_PORT "${PROXY_PGADMIN_PORT:-5050}"
  fill DASH "$PROXY_DASH"
  fill API "$PROXY_API"
  fill AIRFLOW "$PROXY_AIRFLOW"
  fill GRAFANA "$PROXY_GRAFANA"
  fill PGADMIN "$PROXY_PGADMIN"
} > "$FOLDER/fill.sed"
sed -f "$FOLDER/fill.sed" "$(dirname "$0")/nginx.conf" > "$FOLDER/nginx.conf"
exec nginx -e stderr -c "$FOLDER/nginx.conf"
