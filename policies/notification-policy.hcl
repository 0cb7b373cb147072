path "secret/data/notification" {
  capabilities = ["read"]
}
