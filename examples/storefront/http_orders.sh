#!/usr/bin/env bash
# Hands the orders of an outbox over with curl: http_orders.sh FOLDER
# INTAKE is intake's address, INTAKE_KEY an API key where it asks for one, PATIENCE the seconds after which it gives up.
set -euo pipefail
outbox=${1:?the folder of orders}
: "${INTAKE:?the address of intake}"
deadline=$((SECONDS + ${PATIENCE:-120}))
answer=$(mktemp -d)
trap 'rm -rf "$answer"' EXIT
mkdir -p "$outbox/sent" "$outbox/refused"

# The key does not stand on a command line, which others can read.
if [[ -n ${INTAKE_KEY:-} ]]; then
    (umask 077 && printf 'header = "Authorization: Bearer %s"\n' "$INTAKE_KEY" >"$answer/config")
else
    touch "$answer/config"
fi

# wait_before ATTEMPT [RETRY_AFTER]: at random up to 0.5 s, 1 s, 2 s ... 30 s, and no less than the server asks for.
wait_before() {
    local most=$((500 * 2 ** ($1 < 7 ? $1 : 6)))
    ((most <= 30000)) || most=30000
    local wait=$((RANDOM * most / 32767 + 1000 * ${2:-0}))
    sleep "$((wait / 1000)).$(printf '%03d' $((wait % 1000)))"
}

for file in "$outbox"/*.json; do
    [[ -e $file ]] || continue
    id=$(basename "$file" .json)
    for ((attempt = 0; ; attempt++)); do
        # Where there is no answer curl prints 000.
        status=$(curl --silent --max-time 10 --config "$answer/config" \
            --header 'Content-Type: application/json' --header "Idempotency-Key: $id" --data-binary "@$file" \
            --dump-header "$answer/headers" --output "$answer/body" --write-out '%{http_code}' "$INTAKE/orders") || true
        case $status in
        202)
            mv "$file" "$outbox/sent/"
            break
            ;;
        000 | 408 | 429 | 5??)
            after=
            [[ $status = 000 ]] || after=$(sed -n 's/^[Rr]etry-[Aa]fter: *\([0-9]\{1,4\}\).*/\1/p' "$answer/headers")
            if ((SECONDS >= deadline)); then
                echo "$id: not taken in time (last answer: $status); it stays in the outbox" >&2
                exit 1
            fi
            wait_before "$attempt" "$after"
            ;;
        *)
            echo "$id: refused with $status; see $outbox/refused" >&2
            mv "$answer/body" "$outbox/refused/$id.problem"
            mv "$file" "$outbox/refused/"
            break
            ;;
        esac
    done
done
