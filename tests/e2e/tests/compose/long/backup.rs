//! What was backed up is had again, and a stack moves.

use crate::documented::Procedure;
use crate::engine::told;
use crate::long::{OPERATE, begin, hand_over, row};
use crate::stack::{Kept, SOON, Stack};
use harness::wait_until;

#[test]
fn a_backup_is_restored_into_a_new_stack() {
    let old = begin(&[]);
    let made_up = old.secret("auth")["JWT_REFRESH_SECRET"].clone();
    let shares = shares(&old);
    let mut back_up = Procedure::of(OPERATE, "Back up");
    back_up.run(&old);
    back_up.run(&old);
    let new = Stack::new(&[], &[]);
    hand_over(&old, &new);
    drop(old);

    let mut restore = Procedure::of(OPERATE, "Restore");
    restore.run(&new);
    restore.run(&new);
    assert_eq!(row(&new), "", "the database is a new one");
    restore.run(&new);
    assert_eq!(row(&new), "kept");
    assert_eq!(self::shares(&new), shares);
    assert_eq!(new.secret("auth")["JWT_REFRESH_SECRET"], made_up);

    // And what comes later is undone by a snapshot of this Vault.
    let kept = Kept::of(&new);
    told(&mut new.shell("./vault.sh operator raft snapshot save /dev/stdout > vault.snap"));
    told(&mut new.shell("./vault.sh kv patch -mount=secret user BY=mistake"));
    assert_ne!(Kept::of(&new), kept);
    Procedure::of(OPERATE, "Go back to a snapshot").run(&new);
    assert_eq!(Kept::of(&new), kept);
    assert!(wait_until(SOON, || new.reads("user", "user")), "{}", new.story());
}

#[test]
fn a_stack_moves_to_another_host() {
    let old = begin(&[]);
    let made_up = old.secret("auth")["JWT_REFRESH_SECRET"].clone();
    let keys = old.listing("vault-keys");
    let mut moving = Procedure::of(OPERATE, "Move to another host");
    told(&mut old.compose(["up", "--detach", "--wait"]));
    moving.run(&old);
    let new = Stack::new(&[], &[]);
    hand_over(&old, &new);
    drop(old);
    moving.run(&new);
    assert_eq!(new.listing("vault-keys"), keys);
    assert_eq!(new.secret("auth")["JWT_REFRESH_SECRET"], made_up);
    assert_eq!(row(&new), "kept");
    assert!(wait_until(SOON, || new.reads("user", "user")), "{}", new.story());
}

/// The key shares' digests.
fn shares(stack: &Stack) -> Vec<String> {
    let listing = stack.listing("vault-keys");
    let shares = listing.lines().filter(|line| line.contains("  ./unseal-key-"));
    let shares: Vec<_> = shares.map(str::to_owned).collect();
    assert_eq!(shares.len(), 5, "{listing}");
    shares
}
