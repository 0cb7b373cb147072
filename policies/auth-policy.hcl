# Unlike the others, auth reads its database's secret itself: AUTH_DB_* is kept in auth_db alone.
path "secret/data/auth" {
  capabilities = ["read"]
}

path "secret/data/auth_db" {
  capabilities = ["read"]
}
