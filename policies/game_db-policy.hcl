path "secret/data/game_db" {
  capabilities = ["read"]
}
