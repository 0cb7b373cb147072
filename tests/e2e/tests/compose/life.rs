//! From nothing to a stack that works, and back from whatever ends one.

use std::time::Instant;

use harness::wait_until;

use crate::engine::{Container, told};
use crate::shown;
use crate::stack::{Kept, SOON, Stack};

#[test]
fn a_stack_comes_up_from_nothing_and_comes_back() {
    let stack = Stack::new(&[], &[]);
    let begin = Instant::now();
    let stack = stack.start();
    println!("from nothing to well in {:.1?}", begin.elapsed());
    stack.wait_until_well();
    shown::nothing_secret(&stack);

    // Down and up again: the same Vault, the same keys, the same secrets.
    let kept = Kept::of(&stack);
    told(&mut stack.compose(["down", "--volumes"]));
    assert!(stack.containers().is_empty());
    stack.up();
    assert_eq!(Kept::of(&stack), kept);

    // Vault alone: it is unsealed again, and serves.
    told(&mut stack.compose(["restart", "vault"]));
    stack.wait_until_well();
    assert!(wait_until(SOON, || stack.reads("user", "user")), "{}", stack.story());

    // Everything at once, as when the power fails.
    let containers: Vec<_> = stack.containers().into_iter().filter(Container::is_running).collect();
    assert_eq!(containers.len(), 14, "{}", stack.story());
    stack.kill(&containers);
    stack.wait_until_restarted(&containers);
    assert!(wait_until(SOON, || stack.reads("user", "user")), "{}", stack.story());
    let healthy = || stack.exec("user", &["/agent/approle-agent", "healthcheck"]).code() == 0;
    assert!(wait_until(SOON, healthy), "{}", stack.story());
    assert_eq!(Kept::of(&stack), kept);
    shown::nothing_secret(&stack);
}

/// Who runs bootstrap as another user than the owner of the `.env` file is told of both.
#[test]
fn an_env_file_of_somebody_else_is_named() {
    let stack = Stack::new(&[], &[]).with("VAULTCREW_UID", "5999");
    stack.make_volumes();
    told(&mut stack.compose(["up", "--detach", "bootstrap"]));
    let log = || stack.container("bootstrap").log();
    let is_told = || ["/stack", "uid 5999"].iter().all(|part| log().contains(part));
    assert!(wait_until(SOON, is_told), "{}", log());
}
