# In the place of storage.hcl: three nodes, of which a new one joins whoever is there.

storage "raft" {
  path = "/vault/data"

  retry_join {
    leader_api_addr = "http://vault:8200"
  }

  retry_join {
    leader_api_addr = "http://vault-2:8200"
  }

  retry_join {
    leader_api_addr = "http://vault-3:8200"
  }
}
