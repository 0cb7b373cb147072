# In the place of storage.hcl: three nodes, of which a new one joins whoever is there.

storage "raft" {
  path = "/vault/data"

  retry_join {
    leader_api_addr     = "https://vault:8200"
    leader_ca_cert_file = "/tls/ca/ca.pem"
  }

  retry_join {
    leader_api_addr     = "https://vault-2:8200"
    leader_ca_cert_file = "/tls/ca/ca.pem"
  }

  retry_join {
    leader_api_addr     = "https://vault-3:8200"
    leader_ca_cert_file = "/tls/ca/ca.pem"
  }
}
