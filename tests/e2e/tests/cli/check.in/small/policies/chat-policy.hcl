path "secret/data/chat" {
  capabilities = ["read"]
}
