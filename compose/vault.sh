#!/bin/sh
# The command line of Vault's server, with the root token, which is in no argument and in nothing that Docker shows:
#
#   ./vault.sh operator raft list-peers
#   ./vault.sh -i kv patch -mount=secret chat KEY=- <value      -i: the command reads what comes in here
set -eu

input=true
if [ "${1:-}" = -i ]; then
  input="cat"
  shift
fi

# $COMPOSE is a command with arguments.
# shellcheck disable=SC2086
compose() {
  ${COMPOSE:-docker compose} --progress quiet "$@"
}

# The token is in this shell alone, and goes by a pipe.
token=$(compose cp unsealer:/vault/root/root-token - | tar -xO)
# shellcheck disable=SC2016
{
  printf '%s\n' "$token"
  $input
} | compose exec -T vault sh -c 'read -r VAULT_TOKEN
  export VAULT_TOKEN
  exec "$(command -v bao || command -v vault)" "$@"' sh "$@"
