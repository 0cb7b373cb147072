#!/bin/sh
# Makes the volumes that `docker compose down --volumes` does not take, for the stack as the options say:
#
#   ./volumes.sh [options of docker compose: --file, --profile, --project-name …]
#
# What is there already stays as it is.
set -eu

# $COMPOSE is a command with arguments.
# shellcheck disable=SC2086
config=$(${COMPOSE:-docker compose} "$@" config)
printf '%s\n' "$config" |
  awk '/^[a-z]/ { volumes = $1 == "volumes:" }
       volumes && $1 == "name:" { name = $2 }
       volumes && $1 == "external:" && $2 == "true" { print name }' |
  while read -r name; do
    docker volume create "$name"
  done
