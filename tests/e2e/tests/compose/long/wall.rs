//! The four-hour wall, in minutes.

use std::time::{Duration, Instant};

use harness::wait_until;

use crate::engine::Container;
use crate::stack::{Kept, SOON, Stack};

/// Secret IDs live two minutes and tokens eight at most; a quarter of an hour later everything still works, and no service was
/// started again.
#[test]
fn a_stack_outlives_every_life_of_its_credentials() {
    let stack = Stack::new(&[], &[]);
    let manifest = std::fs::read_to_string(stack.path("vaultcrew.toml")).unwrap();
    let lives = "[defaults]\ntoken_ttl = \"2m\"\ntoken_max_ttl = \"8m\"\nsecret_id_ttl = \"2m\"\n";
    stack.write("vaultcrew.toml", &format!("{manifest}\n{lives}"));
    let stack = stack.start();
    let kept = Kept::of(&stack);
    let delivered = stack.listing("approle-user");
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_mins(15) {
        let _ = wait_until(Duration::from_secs(20), || false);
        assert!(wait_until(SOON, || stack.containers().iter().all(Container::is_well)), "{}", stack.story());
        assert!(wait_until(SOON, || stack.reads("user", "user")), "{}", stack.story());
    }
    assert_ne!(stack.listing("approle-user"), delivered);
    let started_again = |container: &Container| container.restarts() > 0;
    assert!(!stack.containers().iter().any(started_again), "{}", stack.story());
    assert_eq!(Kept::of(&stack), kept);
}
