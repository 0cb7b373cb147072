path "secret/data/kibana" {
  capabilities = ["read"]
}
