#!/bin/sh
# What docs/adopt.md takes the place of: it logs in once, puts the token on a command line, and within hours its secret ID is dead.
set -eu
login="{\"role_id\":\"$(cat /vault/approle/role_id)\",\"secret_id\":\"$(cat /vault/approle/secret_id)\"}"
token=$(curl -s -d "$login" "$VAULT_ADDR/v1/auth/approle/login" | jq -r .auth.client_token)
curl -s -H "X-Vault-Token: $token" "$VAULT_ADDR/v1/secret/data/user" |
  jq -r '.data.data | to_entries[] | "\(.key)=\(.value)"' >/tmp/env
set -a
# shellcheck disable=SC1091 # made above
. /tmp/env
exec "$@"
