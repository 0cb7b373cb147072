path "secret/data/filebeat" {
  capabilities = ["read"]
}
