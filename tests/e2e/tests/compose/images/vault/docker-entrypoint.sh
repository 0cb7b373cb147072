#!/bin/sh
# As the official images do: `server` becomes a server with what lies in the configuration directory.
set -eu
[ "$1" = server ] || exec "$@"
shift
exec bao server -config=/openbao/config "$@"
