path "secret/data/grafana" {
  capabilities = ["read"]
}
