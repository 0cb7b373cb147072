# For HashiCorp Vault and OpenBao alike.

ui = false

# Vault wants it with raft, which maps its files into memory; OpenBao has it no more and says so once.
disable_mlock = true

storage "raft" {
  path    = "/vault/data"
  node_id = "vault"
}

listener "tcp" {
  address         = "0.0.0.0:8200"
  cluster_address = "0.0.0.0:8201"
  tls_disable     = true # inside an internal network; tls.yaml does otherwise
}

api_addr     = "http://vault:8200"
cluster_addr = "https://vault:8201"
