#!/bin/sh
# Stands in for a real service: asks its database, if it has one, every few seconds, with the secrets that it was given.
#
#   stand-in.sh [PREFIX]     USER asks by USER_DB_HOST, USER_DB_PORT, USER_DB_NAME, USER_DB_USER and USER_DB_PASSWORD
set -eu

alive=/tmp/alive
trap 'exit 0' TERM INT

if [ $# -gt 0 ]; then
  PGHOST=$(printenv "$1_DB_HOST")
  PGPORT=$(printenv "$1_DB_PORT")
  PGDATABASE=$(printenv "$1_DB_NAME")
  PGUSER=$(printenv "$1_DB_USER")
  PGPASSWORD=$(printenv "$1_DB_PASSWORD")
  export PGHOST PGPORT PGDATABASE PGUSER PGPASSWORD PGCONNECT_TIMEOUT=5
fi

while :; do
  if [ $# -eq 0 ] || psql -qtAX -c 'SELECT 1' >/dev/null; then
    : >"$alive"
  else
    rm -f "$alive"
  fi
  # A shell waits for a sleep to end before it looks at its signals, and not for wait.
  sleep 5 &
  wait $!
done
