# For HashiCorp Vault and OpenBao alike. Who a node is, is in its environment: VAULT_RAFT_NODE_ID, VAULT_API_ADDR, VAULT_CLUSTER_ADDR.

ui = false

# Vault wants it with raft, which maps its files into memory; OpenBao has it no more and says so once.
disable_mlock = true

listener "tcp" {
  address         = "0.0.0.0:8200"
  cluster_address = "0.0.0.0:8201"
  tls_disable     = true # inside an internal network; tls.yaml does otherwise
}
