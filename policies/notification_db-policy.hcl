path "secret/data/notification_db" {
  capabilities = ["read"]
}
