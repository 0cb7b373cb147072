//! Stacks beside each other, and other Vaults than the stack's own.

use std::net::TcpListener;

use harness::wait_until;

use crate::documented::Procedure;
use crate::engine::{LABEL, docker, told};
use crate::images;
use crate::long::OPERATE;
use crate::stack::{SOON, Stack};

#[test]
fn several_stacks_live_on_one_host() {
    let first = Stack::new(&[], &[]);
    first.make_volumes();
    first.up_with(&["user"]);
    let second = Stack::new(&[], &[]);
    let directory = second.path("");
    let instead = [("/srv/blue", directory.to_str().unwrap()), ("blue", second.project.as_str())];
    Procedure::of(OPERATE, "Several stacks on one host").run_with(&second, &instead);

    let networks = |stack: &Stack| {
        stack.containers().iter().flat_map(crate::engine::Container::networks).collect::<Vec<_>>()
    };
    assert!(!networks(&first).iter().any(|network| networks(&second).contains(network)));
    first.wait_until_well();
    told(&mut first.compose(["down", "--volumes"]));
    drop(first);
    second.wait_until_well();
    assert!(wait_until(SOON, || second.reads("user", "user")), "{}", second.story());
}

#[test]
fn a_vault_that_exists_already_is_used_and_keeps_what_it_has() {
    let stack = Stack::new(&["existing-vault.yaml"], &[]);
    let existing = Existing::start(&stack);
    existing.ask("bao auth enable -path=approle approle");
    existing
        .ask("echo 'path \"secret/data/old\" { capabilities = [\"read\"] }' | bao policy write old-policy -");
    existing.ask("bao write auth/approle/role/old token_policies=old-policy secret_id_ttl=7h");
    existing.ask("bao kv put -mount=secret chat OWNER=somebody");
    stack.write("vault-token", TOKEN);

    let token = stack.path("vault-token");
    let instead = [
        ("http://vault.example:8200", existing.address.as_str()),
        ("../examples/transcendence/vault-token", token.to_str().unwrap()),
    ];
    Procedure::of(OPERATE, "A Vault that exists already").run_with(&stack, &instead);
    let stack = stack.with("VAULTCREW_VAULT_ADDR", existing.address.as_str());
    let services: Vec<_> =
        stack.containers().iter().map(|container| container.service().to_owned()).collect();
    assert!(
        !services.iter().any(|name| ["vault", "vault-volume", "unsealer"].contains(&name.as_str())),
        "{services:?}"
    );

    // The old things are as they were, and the new ones are there.
    assert!(existing.ask("bao policy read old-policy").contains("secret/data/old"));
    assert!(existing.ask("bao read auth/approle/role/old").contains("7h"));
    let chat = existing.ask("bao kv get -mount=secret -format=json chat");
    assert!(chat.contains("\"OWNER\": \"somebody\"") && chat.contains("CHAT_DB_USER"));
    // Without that token everything goes on.
    assert!(!token.exists());
    told(&mut stack.compose(["restart", "bootstrap"]));
    stack.wait_until_well();
    assert!(wait_until(SOON, || stack.reads("user", "user")), "{}", stack.story());
}

#[test]
fn a_server_in_dev_mode_is_enough_for_trying() {
    let stack = Stack::new(&[], &[]);
    Procedure::of(OPERATE, "Dev mode").run(&stack);
    drop(stack);

    let stack = Stack::new(&["dev.yaml"], &[]).start();
    assert!(stack.reads("user", "user"));
    assert!(!stack.listing("vault-keys").contains("unseal-key"));
    // It is empty after its start, and filled again.
    let before = [stack.container("vault")];
    stack.kill(&before);
    stack.wait_until_restarted(&before);
    assert!(wait_until(SOON, || stack.reads("user", "user")), "{}", stack.story());
}

const TOKEN: &str = "the-root-token-of-a-vault-that-exists";

/// A server that is no part of any stack, in the host's own network.
struct Existing {
    container: String,
    /// As the stack's networks reach it.
    address: String,
    port: u16,
}

impl Existing {
    fn start(stack: &Stack) -> Self {
        let port = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        let label = format!("--label={LABEL}={}", stack.project);
        let token = format!("-dev-root-token-id={TOKEN}");
        let listen = format!("-dev-listen-address=0.0.0.0:{port}");
        let server = ["bao", "server", "-dev", "-dev-no-store-token", &token, &listen];
        let image = images::name("vault");
        let container = told(docker(["run", "--detach", "--network=host", &label, &image]).args(server));
        // The host's address in a network of its own: what is not internal reaches it.
        let network = format!("{}_elsewhere", stack.project);
        told(&mut docker(["network", "create", &network]));
        let gateway = "--format={{(index .IPAM.Config 0).Gateway}}";
        let gateway = told(&mut docker(["network", "inspect", gateway, &network]));
        assert!(!gateway.trim().is_empty());
        let address = format!("http://{}:{port}", gateway.trim());
        let existing = Self { container: container.trim().to_owned(), address, port };
        let is_up = || crate::engine::run(&mut existing.command("bao status")).code() == 0;
        assert!(wait_until(SOON, is_up));
        existing
    }

    fn ask(&self, script: &str) -> String {
        told(&mut self.command(script))
    }

    fn command(&self, script: &str) -> std::process::Command {
        let script = format!("export BAO_ADDR=http://127.0.0.1:{} BAO_TOKEN={TOKEN}; {script}", self.port);
        docker(["exec", &self.container, "sh", "-euc", &script])
    }
}
