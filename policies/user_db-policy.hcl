path "secret/data/user_db" {
  capabilities = ["read"]
}
