path "secret/data/auth_db" {
  capabilities = ["read"]
}
