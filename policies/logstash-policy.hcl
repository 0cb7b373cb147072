path "secret/data/logstash" {
  capabilities = ["read"]
}
