//! Each volume is lost in turn.

use harness::wait_until;

use crate::documented::Procedure;
use crate::engine::{docker, run, told};
use crate::long::{OPERATE, begin, row};
use crate::stack::{Kept, SOON, Stack};

#[test]
fn each_volume_is_lost_in_turn() {
    let stack = begin(&[]);
    stack.up();
    let mut back_up = Procedure::of(OPERATE, "Back up");
    back_up.run(&stack);
    back_up.run(&stack);
    let kept = Kept::of(&stack);

    // What nobody needs to keep.
    lose(&stack, &[]);
    Procedure::of(OPERATE, "Credentials, sockets, the agent").run(&stack);
    assert_eq!(Kept::of(&stack), kept);

    // bootstrap's credential, when there is no root token either.
    stack.exec("unsealer", &["/bin/unsealer", "revoke-root"]).success();
    let credential = stack.listing("bootstrap");
    lose(&stack, &["bootstrap"]);
    Procedure::of(OPERATE, "bootstrap").run(&stack);
    assert_ne!(stack.listing("bootstrap"), credential);
    serves(&stack);

    // Nobody misses the root token.
    let secrets = Kept::of(&stack);
    lose(&stack, &["vault-root"]);
    Procedure::of(OPERATE, "vault-root").run(&stack);
    assert_eq!(stack.listing("vault-root"), "");
    serves(&stack);
    stack.exec("unsealer", &["/bin/unsealer", "generate-root"]).success();
    assert_eq!(Kept::of(&stack).without_root(), secrets.without_root());

    // Without the keys nothing is begun anew.
    let keys = stack.listing("vault-keys");
    lose(&stack, &["vault-keys"]);
    stack.make_volumes();
    let log = why_unsealer_stops(&stack);
    assert!(log.contains("initialised") && log.contains("no key"), "{log}");
    Procedure::of(OPERATE, "vault-keys").run(&stack);
    assert_eq!(stack.listing("vault-keys"), keys);
    serves(&stack);

    lose(&stack, &["user_db"]);
    Procedure::of(OPERATE, "A database").run(&stack);
    assert_eq!(row(&stack), "kept");
    serves(&stack);

    // Without its data nothing is begun anew either, as long as the keys are there.
    let made_up = stack.secret("auth")["JWT_REFRESH_SECRET"].clone();
    lose(&stack, &["vault-data"]);
    stack.make_volumes();
    let log = why_unsealer_stops(&stack);
    assert!(log.contains("not initialised") || log.contains("holds nothing"), "{log}");
    assert_eq!(stack.listing("vault-keys"), keys);
    Procedure::of(OPERATE, "vault-data").run(&stack);
    assert_ne!(stack.secret("auth")["JWT_REFRESH_SECRET"], made_up);
    assert_eq!(row(&stack), "kept");
    serves(&stack);
}

#[test]
fn the_monitoring_loses_what_it_keeps() {
    let stack = Stack::new(&[], &["monitoring"]).start();
    lose(&stack, &["elasticsearch", "grafana"]);
    Procedure::of(OPERATE, "elasticsearch, grafana").run(&stack);
    stack.exec("elasticsearch", &["test", "-s", "/tmp/record/user-kibana_system-_password"]).success();
}

/// The volumes are gone, and with them those that `down --volumes` takes.
fn lose(stack: &Stack, volumes: &[&str]) {
    told(&mut stack.compose(["down", "--volumes"]));
    for volume in volumes {
        told(&mut docker(["volume", "rm", &format!("{}_{volume}", stack.project)]));
    }
}

fn why_unsealer_stops(stack: &Stack) -> String {
    let up = run(&mut stack.compose(["up", "--detach", "--wait", "--wait-timeout", "30", "unsealer"]));
    assert_ne!(up.code(), 0, "unsealer is healthy\n{}", stack.story());
    let log = stack.container("unsealer").log();
    told(&mut stack.compose(["down"]));
    log
}

fn serves(stack: &Stack) {
    stack.wait_until_well();
    assert!(wait_until(SOON, || stack.reads("user", "user")), "{}", stack.story());
}
