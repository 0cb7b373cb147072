"""What bootstrap replaces: the same stack made with hvac, one request after another."""

import os
import pathlib
import time

import hvac
from dotenv import dotenv_values

# A group of keys for each service, by what they begin with.
secrets = {}
for key, value in dotenv_values(".env").items():
    secrets.setdefault(key.split("_", 1)[0].lower(), {})[key] = value

client = hvac.Client(url=os.environ["VAULT_ADDR"], token=os.environ["VAULT_TOKEN"])
client.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
client.sys.enable_auth_method("approle")

# A new mount refuses writes for a moment.
while True:
    try:
        client.secrets.kv.v2.read_configuration()
        break
    except hvac.exceptions.InvalidRequest:
        time.sleep(0.01)

for file in sorted(pathlib.Path("policies").glob("*-policy.hcl")):
    service = file.name.removesuffix("-policy.hcl")
    client.secrets.kv.v2.create_or_update_secret(path=service, secret=secrets[service])
    client.sys.create_or_update_policy(name=f"{service}-policy", policy=file.read_text())
    client.auth.approle.create_or_update_approle(
        role_name=service,
        token_policies=[f"{service}-policy"],
        token_ttl="1h",
        token_max_ttl="4h",
        secret_id_ttl="1h",
    )
    role_id = client.auth.approle.read_role_id(role_name=service)["data"]["role_id"]
    secret_id = client.auth.approle.generate_secret_id(role_name=service)["data"]["secret_id"]
    directory = pathlib.Path(os.environ["APPROLE_DIR"]) / service
    directory.mkdir(parents=True)
    for name, value in [("role_id", role_id), ("secret_id", secret_id)]:
        path = directory / name
        path.write_text(value)
        path.chmod(0o440)
