# In the place of vault.hcl, where everything speaks TLS.

ui            = false
disable_mlock = true

listener "tcp" {
  address         = "0.0.0.0:8200"
  cluster_address = "0.0.0.0:8201"
  tls_cert_file   = "/tls/own/cert.pem"
  tls_key_file    = "/tls/own/key.pem"
}
