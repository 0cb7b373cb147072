# Reads its own secret, and that of its database.
path "secret/data/user" {
  capabilities = ["read", "update"]
}

path "secret/user_db" {
  capabilities = ["raed"]
}
