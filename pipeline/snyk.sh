#!/bin/sh
# Snyk's scans: `make snyk SCANS="dependencies code manifests"`, or SCANS=image IMAGE=...
#
# snyk exits with 1 for findings, with 2 for a failure, with 3 for no supported project. After 2 and 3 nothing is known:
# the scan is tried again, and is then neither a finding nor a pass. All scans are made. Exit code 0: clean; 1: findings;
# 2: failed, without any finding. build/snyk/verdict has the same in a word, because make exits with 2 for every failure.
set -u
mkdir -p build/snyk
echo failed >build/snyk/verdict
fail() { echo "snyk: $1" >&2; exit 2; }
command -v snyk >/dev/null || fail 'snyk is not on the PATH'
[ "${SNYK_TOKEN:-}" ] || fail 'SNYK_TOKEN is not set; it is the credential snyk-token'

verdicts=
for scan in "$@"; do
    case $scan in
        dependencies) set -- test --file=requirements.txt --package-manager=pip ;;
        code) set -- code test ;;
        manifests) set -- iac test knative kafka-source kafka argo ;;
        image)
            [ "${IMAGE:-}" ] || fail 'the image to scan is not named: make snyk SCANS=image IMAGE=...'
            set -- container test "$IMAGE" --file=Dockerfile
            ;;
        *) fail "no scan is named $scan" ;;
    esac
    for _ in 1 2 3; do
        snyk "$@" --severity-threshold=high "--json-file-output=build/snyk/$scan.json"
        code=$?
        [ $code -gt 1 ] || break
    done
    case $code in 0) verdict=clean ;; 1) verdict=findings ;; *) verdict=failed ;; esac
    echo "snyk $scan: $verdict"
    verdicts="$verdicts $verdict"
done
case $verdicts in
    *findings*) echo findings >build/snyk/verdict; exit 1 ;;
    *failed* | '') fail 'a scan failed, so nothing is known; this is no finding' ;;
    *) echo clean >build/snyk/verdict ;;
esac
