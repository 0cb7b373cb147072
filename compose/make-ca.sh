#!/bin/sh
# Makes a private CA and certificates of it, for trying tls.yaml out:
#
#   ./make-ca.sh [DIRECTORY]      by default $VAULTCREW_TLS, or ./tls
#
#   ca/ca.pem                     the CA's certificate, which everybody mounts
#   <server>/cert.pem, key.pem    those of each server, which it alone mounts
#   private/ca-key.pem            the CA's key, which nobody mounts: keep it elsewhere, or throw it away
#
# What is there already stays. With a CA of your own, put its files where these would be.
set -eu
umask 077
dir=${1:-${VAULTCREW_TLS:-./tls}}
mkdir -p "$dir/private" "$dir/ca"
dir=$(cd "$dir" && pwd)

# As PKCS #8, which Logstash wants.
key() {
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"
}

if [ ! -e "$dir/ca/ca.pem" ]; then
  key "$dir/private/ca-key.pem"
  openssl req -x509 -new -key "$dir/private/ca-key.pem" -days 3650 -subj '/CN=Private CA of this stack' \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign -out "$dir/ca/ca.pem"
fi

servers="vault vault-2 vault-3 user_db auth_db chat_db game_db notification_db elasticsearch kibana logstash grafana"
for server in $servers; do
  [ ! -e "$dir/$server/cert.pem" ] || continue
  mkdir -p "$dir/$server"
  key "$dir/$server/key.pem"
  openssl req -new -key "$dir/$server/key.pem" -subj "/CN=$server" -out "$dir/private/$server.csr"
  printf 'subjectAltName=DNS:%s,DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' "$server" \
    >"$dir/private/extensions"
  openssl x509 -req -in "$dir/private/$server.csr" -CA "$dir/ca/ca.pem" -CAkey "$dir/private/ca-key.pem" -CAcreateserial \
    -days 365 -extfile "$dir/private/extensions" -out "$dir/$server/cert.pem" 2>/dev/null
done

# Each server runs as a user of its own, who reads what is mounted; on the host nobody gets past the directory's 0700.
chmod 0755 "$dir/ca"
chmod 0644 "$dir/ca/ca.pem"
for server in $servers; do
  chmod 0755 "$dir/$server"
  chmod 0644 "$dir/$server/cert.pem" "$dir/$server/key.pem"
done
