#!/usr/bin/env bash
# Runs the suites of the official SDKs against the hub: Python first, then Node; both, whatever the first one says.
#
# Needs Python 3.11, Node 20 and openssl, the ports 443 and 8883 on 127.0.0.1 and the right to bind them, and the
# program at target/debug/fleetyard or at FLEETYARD_BIN. Installs the clients that are missing, from the pinned lists.
set -euo pipefail
cd "$(dirname "$0")"

program="${FLEETYARD_BIN:-../target/debug/fleetyard}"
if [ ! -x "$program" ]; then
    echo "e2e: $program does not exist: run \`cargo build\` first, or set FLEETYARD_BIN" >&2
    exit 2
fi
FLEETYARD_BIN="$(realpath "$program")"
export FLEETYARD_BIN

for tool in python3 node npm openssl; do
    if ! command -v "$tool" >/dev/null; then
        echo "e2e: $tool is not installed (on Debian: apt install python3 python3-venv nodejs npm openssl)" >&2
        exit 2
    fi
done

# A stamp beside what was installed says from which list; another list installs anew.
stamp() { sha256sum "$1" | cut -d' ' -f1; }

if [ "$(cat .venv/stamp 2>/dev/null)" != "$(stamp python/requirements.txt)" ]; then
    echo "e2e: installing the Python SDKs into e2e/.venv"
    python3 -m venv .venv
    .venv/bin/pip install --quiet --disable-pip-version-check -r python/requirements.txt
    stamp python/requirements.txt >.venv/stamp
fi
if [ "$(cat node/node_modules/.stamp 2>/dev/null)" != "$(stamp node/package-lock.json)" ]; then
    echo "e2e: installing the Node SDKs into e2e/node/node_modules"
    (cd node && npm ci --silent --no-audit --no-fund)
    stamp node/package-lock.json >node/node_modules/.stamp
fi

status=0
echo "e2e: Python SDKs"
(cd python && PYTHONDONTWRITEBYTECODE=1 ../.venv/bin/python -m pytest -q "$@") || status=1
echo "e2e: Node SDKs"
(cd node && node run.js) || status=1
exit "$status"
