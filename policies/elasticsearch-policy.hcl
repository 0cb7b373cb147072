path "secret/data/elasticsearch" {
  capabilities = ["read"]
}
