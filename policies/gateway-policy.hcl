path "secret/data/gateway" {
  capabilities = ["read"]
}
