path "secret/data/user" {
  capabilities = ["read"]
}
