path "secret/data/chatt" {
  capabilities = ["read"]
}

path "sys/mounts" {
  capabilities = ["read", "sudo"]
}
