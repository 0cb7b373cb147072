path "secret/data/chat_db" {
  capabilities = ["read"]
}
