//! New images while the stack runs.

use harness::wait_until;

use crate::documented::Procedure;
use crate::engine::{Container, docker, run, told};
use crate::images;
use crate::long::{OPERATE, begin, row};
use crate::overlays::all_nodes_vote;
use crate::stack::{Kept, SOON, Stack};

const SERVICES: [&str; 6] = ["user", "auth", "chat", "game", "notification", "gateway"];

#[test]
fn vaultcrew_is_upgraded() {
    let mut stack = begin(&[]);
    stack.up();
    let kept = Kept::of(&stack);
    let before = stack.containers();
    let version = stack.project.clone();
    for program in images::PROGRAMS {
        images::build_again(program, &version);
    }
    Procedure::of(OPERATE, "Upgrade Vaultcrew").run_with(&stack, &[("1.2.3", &version)]);
    stack.set("VAULTCREW_VERSION", version.as_str());
    stack.wait_until_well();

    let after = stack.containers();
    let find = |service: &str| after.iter().find(|container| container.service() == service).unwrap();
    for old in &before {
        let new = find(old.service());
        let is_ours = images::PROGRAMS.iter().any(|program| old.image_name().contains(program));
        assert_eq!(new.image() != old.image(), is_ours, "{}", old.service());
        assert!(!old.service().ends_with("_db") || new.id() == old.id(), "{}", old.service());
    }
    // The agents are those that the new image brought.
    let pids = SERVICES.map(|service| format!("/proc/{}/exe", find(service).pid())).join(" ");
    let inside = ["--pid=host", "--cap-add=SYS_PTRACE", "--security-opt=apparmor=unconfined"];
    let running = told(&mut stack.as_root(&inside, &format!("readlink {pids}")));
    assert_eq!(running.lines().collect::<Vec<_>>(), vec!["/agent/approle-agent"; SERVICES.len()]);
    assert_eq!(Kept::of(&stack), kept);
    assert!(wait_until(SOON, || stack.reads("user", "user")), "{}", stack.story());
    drop(stack);
    for program in images::PROGRAMS {
        told(&mut docker(["image", "rm", &format!("{}:{version}", images::name(program))]));
    }
}

#[test]
fn vault_is_upgraded() {
    let (mut stack, new) = with_the_earlier_server(&[]);
    let kept = Kept::of(&stack);
    let before = services(&stack);
    Procedure::of(OPERATE, "Upgrade Vault").run_with(&stack, &[("openbao/openbao:2.7.2", &new)]);
    stack.set("VAULT_IMAGE", new);
    is_upgraded(&stack, &["vault"]);
    assert_eq!(services(&stack), before);
    assert_eq!(Kept::of(&stack), kept);
    assert_eq!(row(&stack), "kept");
    assert!(wait_until(SOON, || stack.reads("user", "user")), "{}", stack.story());
}

#[test]
fn a_cluster_is_upgraded_node_by_node() {
    let (mut stack, new) = with_the_earlier_server(&["ha.yaml"]);
    all_nodes_vote(&stack);
    let kept = Kept::of(&stack);
    let before = services(&stack);
    Procedure::of(OPERATE, "Upgrade Vault in a cluster").run_with(&stack, &[("openbao/openbao:2.7.2", &new)]);
    stack.set("VAULT_IMAGE", new);
    is_upgraded(&stack, &["vault", "vault-2", "vault-3"]);
    assert_eq!(services(&stack), before);
    all_nodes_vote(&stack);
    assert_eq!(Kept::of(&stack), kept);
    assert!(wait_until(SOON, || stack.reads("user", "user")), "{}", stack.story());
}

/// A stack that began with the earlier server, and the name of the newer one's image.
fn with_the_earlier_server(overlays: &[&str]) -> (Stack, String) {
    images::build_earlier_vault();
    let earlier = format!("{}:earlier", images::name("vault"));
    let mut stack = Stack::new(overlays, &[]);
    stack.set("VAULT_IMAGE", earlier);
    crate::long::fill(&stack);
    assert!(version(&stack, "vault").contains("2.6."), "{}", version(&stack, "vault"));
    (stack, format!("{}:latest", images::name("vault")))
}

/// Those that nothing happens to, and since when they run.
fn services(stack: &Stack) -> [(String, String); 3] {
    let told = |container: &Container| (container.id().to_owned(), container.started_at().to_owned());
    ["user", "bootstrap", "unsealer"].map(|service| told(&stack.container(service)))
}

fn is_upgraded(stack: &Stack, nodes: &[&str]) {
    let mut new = harness::server_command().unwrap();
    let new = run(new.arg("version")).stdout;
    for node in nodes {
        assert_eq!(version(stack, node), new, "{node}");
    }
}

fn version(stack: &Stack, node: &str) -> String {
    stack.exec(node, &["bao", "version"]).success().stdout
}
