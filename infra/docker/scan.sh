#!/bin/sh
# Fails when an image that docker-compose.yml or the Kubernetes manifests run has a known, fixed vulnerability of high or
# critical severity. For the project's folder, after `docker compose build`: scan.sh [IMAGE…]
set -eu
# By digest, because tags of scanners were moved by attackers before.
TRIVY=aquasec/trivy:0.73.0@sha256:7cced7cae583819fc7806d4cbc0dbbc7cad18b99f7d3e235192e6da8c091045c
failed=''
[ $# -gt 0 ] || set -- $(docker compose --profile '*' config --images | sort -u) make-us-rich/serve
for image in "$@"; do
  docker run --rm -v /var/run/docker.sock:/var/run/docker.sock -v trivy-cache:/root/.cache "$TRIVY" image --quiet \
    --scanners vuln --severity HIGH,CRITICAL --ignore-unfixed --exit-code 1 "$image" || failed="$failed $image"
done
[ -z "$failed" ] || { echo "raise these images:$failed" >&2; exit 1; }
