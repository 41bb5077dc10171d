#!/usr/bin/env bash
# Hands the orders of an outbox over with kcat: kafka_orders.sh FOLDER
# KAFKA_BOOTSTRAP is host:port of a broker, PATIENCE the seconds after which it gives up. A file of librdkafka's
# properties (TLS, a login) can be named in KCAT_CONFIG, which kcat reads by itself.
set -euo pipefail
outbox=${1:?the folder of orders}
: "${KAFKA_BOOTSTRAP:?host:port of a broker}"
patience=${PATIENCE:-120}
mkdir -p "$outbox/sent"

for file in "$outbox"/*.json; do
    [[ -e $file ]] || continue
    id=$(basename "$file" .json)
    # librdkafka repeats by itself until message.timeout.ms is over; idempotent, it neither doubles nor reorders. The
    # whole file is one record: its lines are joined, which JSON does not mind.
    if tr '\n' ' ' <"$file" | kcat -P -b "$KAFKA_BOOTSTRAP" -t orders.inbox.v1 -k "$id" -c 1 \
        -X enable.idempotence=true -X acks=all -X partitioner=murmur2_random \
        -X message.timeout.ms="$((patience * 1000))" \
        -H ce_specversion=1.0 -H ce_type=dev.orderflow.order.placed.v1 -H ce_source=/shop/example \
        -H "ce_id=$id" -H "ce_subject=$id" -H "ce_partitionkey=$id" -H content-type=application/json; then
        mv "$file" "$outbox/sent/"
    else
        echo "$id: Kafka did not confirm; it stays in the outbox" >&2
        exit 1
    fi
done
