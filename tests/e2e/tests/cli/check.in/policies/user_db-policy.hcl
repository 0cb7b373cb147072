path "secret/data/*" {
  policy = "write"
}
