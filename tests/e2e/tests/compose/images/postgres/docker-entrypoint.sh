#!/bin/bash
# As the official image does: at the first start a database is made, and a server that listens on the socket alone runs for a
# moment before the real one.
set -Eeuo pipefail
[ "$1" = postgres ] || exec "$@"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  mkdir -p "$PGDATA"
  password=$(<"$POSTGRES_PASSWORD_FILE")
  # shellcheck disable=SC2086 # several arguments
  initdb --username=postgres --pwfile=<(printf '%s\n' "$password") ${POSTGRES_INITDB_ARGS:-} >/dev/null
  printf 'host all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
  pg_ctl --wait --options="-c listen_addresses=''" start >/dev/null
  pg_ctl --wait --mode=fast stop >/dev/null
fi
exec "$@" -c listen_addresses='*'
