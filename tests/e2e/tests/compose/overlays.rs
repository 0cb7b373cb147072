//! The overlays: three nodes, TLS, encrypted key shares.

use std::process::Command;

use harness::wait_until;

use crate::engine::{docker, run, told};
use crate::monitoring::{MONITORING, monitoring_speaks_tls};
use crate::shown;
use crate::stack::{SOON, Stack};

#[test]
fn three_nodes_outlive_the_loss_of_one() {
    let stack = Stack::new(&["ha.yaml"], &[]);
    stack.make_volumes();
    stack.up_with(&["user"]);
    survives_the_loss_of_any_node(&stack);
}

pub(crate) fn survives_the_loss_of_any_node(stack: &Stack) {
    all_nodes_vote(stack);
    for node in ["vault", "vault-2", "vault-3"] {
        told(&mut stack.compose(["stop", node]));
        assert!(wait_until(SOON, || stack.reads("user", "user")), "without {node}\n{}", stack.story());
        told(&mut stack.compose(["start", node]));
        assert!(wait_until(SOON, || stack.container("unsealer").is_well()), "{node}\n{}", stack.story());
    }
    stack.wait_until_well();
}

/// A new node gets its vote after some ten seconds; without it the loss of another is the loss of the quorum.
pub(crate) fn all_nodes_vote(stack: &Stack) {
    let peers = || stack.ask_vault("$bao operator raft list-peers -format=json");
    let have_votes = || peers().matches("\"voter\": true").count() == 3;
    assert!(wait_until(SOON, have_votes), "{}", peers());
}

#[test]
fn everything_speaks_tls() {
    let stack = with_certificates(Stack::new(&["tls.yaml"], &["monitoring"]));
    stack.make_volumes();
    stack.up_with(&[&["user"][..], &MONITORING].concat());
    shown::nothing_secret(&stack);
    nothing_is_had_without_tls(&stack);
    monitoring_speaks_tls(&stack);
}

/// Those that `make-ca.sh` makes.
pub(crate) fn with_certificates(stack: Stack) -> Stack {
    let directory = stack.path("tls");
    run(Command::new(stack.compose_dir().join("make-ca.sh")).arg(&directory)).success();
    stack.with("VAULTCREW_TLS", directory.to_str().unwrap())
}

pub(crate) fn nothing_is_had_without_tls(stack: &Stack) {
    stack.render("user", "user").success();
    let plain = "VAULT_ADDR=http://vault:8200 /agent/approle-agent render --wait=3s --files-dir=/tmp/plain --secret user";
    let told = stack.exec("user", &["sh", "-c", plain]).expect_code(69).stderr;
    assert!(told.contains("begin with https://"), "{told}");
    let foreign = "VAULT_CACERT= /agent/approle-agent render --wait=3s --files-dir=/tmp/plain --secret user";
    stack.exec("user", &["sh", "-c", foreign]).expect_code(69);

    let ask = |mode: &str| {
        let psql = format!("PGSSLMODE={mode} psql -h user_db -d users -U nobody -w -c 'SELECT 1'");
        stack.exec("user", &["sh", "-c", &psql]).stderr
    };
    assert!(ask("disable").contains("no encryption"), "{}", ask("disable"));
    assert!(ask("verify-full").contains("no password supplied"), "{}", ask("verify-full"));
}

/// Of age-keygen, for tests alone.
const IDENTITY: &str = "AGE-SECRET-KEY-1JYSAWAA9800LJK6VXSRFF0HR6F66HUHQ4NQK8X3VK6H48NAPVVLQHRRL6P\n";
const RECIPIENT: &str = "age196zklfgephv333jjhceq0p0gscufc78nmmrn5mx0y0cjw2hkh5uqfhh0z0";

#[test]
fn shares_are_encrypted_and_root_is_gone() {
    let stack = Stack::new(&["hardened.yaml"], &[]);
    stack.write_for_all("age-identity.txt", IDENTITY);
    let identity = stack.path("age-identity.txt");
    let stack = stack
        .with("VAULTCREW_AGE_IDENTITY", identity.to_str().unwrap())
        .with("VAULTCREW_AGE_RECIPIENT", RECIPIENT);
    stack.make_volumes();
    stack.up_with(&["gateway"]);
    root_is_gone(&stack);

    let keys = stack.listing("vault-keys");
    assert_eq!(
        keys.matches("unseal-key-").count(),
        keys.matches(".age").count() - keys.matches("_id.age").count(),
        "{keys}"
    );
    assert!(keys.contains("unseal-key-5.age"), "{keys}");

    // Vault comes back, and the credentials stay fresh, without root.
    told(&mut stack.compose(["restart", "vault", "bootstrap"]));
    stack.wait_until_well();
    assert!(wait_until(SOON, || stack.reads("gateway", "gateway")), "{}", stack.story());

    // For a change there is root for as long as it takes, and here for as long as bootstrap does not see it.
    let bootstrap = stack.container("bootstrap");
    told(&mut docker(["pause", bootstrap.id()]));
    stack.exec("unsealer", &["/bin/unsealer", "generate-root"]).success();
    shown::nothing_secret(&stack);
    told(&mut docker(["unpause", bootstrap.id()]));
    root_is_gone(&stack);
    stack.wait_until_well();
    // And up again, when there is nothing to be revoked.
    told(&mut stack.compose(["down"]));
    stack.up_with(&["gateway"]);
    assert_eq!(stack.listing("vault-root"), "");
}

/// bootstrap revokes it once it has applied everything.
fn root_is_gone(stack: &Stack) {
    let mount = stack.mounted("vault-root");
    let is_empty = || told(&mut stack.as_root(&[&mount], "ls -A /vault-root")).is_empty();
    assert!(wait_until(SOON, is_empty), "{}", stack.container("bootstrap").log());
}
