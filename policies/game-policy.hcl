path "secret/data/game" {
  capabilities = ["read"]
}
