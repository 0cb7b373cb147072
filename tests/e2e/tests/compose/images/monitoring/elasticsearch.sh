#!/bin/bash
# As the official image: a file that others may read is refused; then there is a server with the built-in user elastic.
set -euo pipefail
mkdir -p /tmp/record
tr '\0' '\n' </proc/$$/environ >/tmp/record/environment
mode=$(stat -L -c %a "$ELASTIC_PASSWORD_FILE")
if [ "$mode" != 400 ] && [ "$mode" != 600 ]; then
  echo "ERROR: File $ELASTIC_PASSWORD_FILE from ELASTIC_PASSWORD_FILE must have file permissions 400 or 600" >&2
  exit 1
fi
printf 'elastic:%s' "$(<"$ELASTIC_PASSWORD_FILE")" | base64 -w0 >/tmp/record/authorization
if [ "$(printenv xpack.security.http.ssl.enabled)" = true ]; then
  cd /usr/share/elasticsearch/config
  certificate=cert=$(printenv xpack.security.http.ssl.certificate),key=$(printenv xpack.security.http.ssl.key)
  socat "OPENSSL-LISTEN:9200,$certificate,verify=0,reuseaddr,fork" TCP:127.0.0.1:9201 &
  exec perl /usr/local/bin/elasticsearch.pl 127.0.0.1:9201
fi
exec perl /usr/local/bin/elasticsearch.pl 0.0.0.0:9200
