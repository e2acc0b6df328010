#!/usr/bin/env bash
# Publishes a ticket a second. The idempotency key makes the retries of curl safe: a ticket appears once.
set -euo pipefail
url=${1:-http://127.0.0.1:8080}
run=$(date +%s)
for ((n = 1; ; n++)); do
    curl --silent --show-error --fail --retry 5 --retry-connrefused --retry-all-errors \
        -H "idempotency-key: feed-$run-$n" -d "{\"ticket\":$n,\"status\":\"open\"}" "$url/v1/publish/tickets"
    echo
    sleep 1
done
