//! What docs/operate.md says, done.

use crate::engine::{docker, run, told};
use crate::stack::Stack;

#[test]
fn a_stack_moves_to_another_host_and_loses_its_volumes() {
    let old = Stack::new(&[], &[]);
    old.make_volumes();
    old.up_with(&["user"]);
    let made_up = old.secret("auth")["JWT_REFRESH_SECRET"].clone();
    let keys = old.listing("vault-keys");
    told(&mut old.compose(["down"]));

    // Only the keys and the data go to the new host.
    let new = Stack::new(&[], &[]);
    new.make_volumes();
    for volume in ["vault-keys", "vault-data"] {
        let from = format!("--volume={}_{volume}:/from:ro", old.project);
        let to = format!("--volume={}_{volume}:/to", new.project);
        told(&mut new.as_root(&[&from, &to], "tar -C /from -c . | tar -C /to -x"));
    }
    drop(old);
    new.up_with(&["unsealer"]);
    new.exec("unsealer", &["/bin/unsealer", "generate-root"]).success();
    new.up_with(&["user"]);
    assert_eq!(new.listing("vault-keys"), keys);
    assert_eq!(new.secret("auth")["JWT_REFRESH_SECRET"], made_up);

    // bootstrap's credential is made anew by the root token, and does without that.
    lose(&new, "bootstrap");
    new.up_with(&["user"]);
    lose(&new, "vault-root");
    new.up_with(&["user"]);
    assert_eq!(new.listing("vault-root"), "");

    // Without the keys nothing is begun anew.
    let saved = format!("--volume={}_saved:/saved", new.project);
    told(&mut new.as_root(&[&new.mounted("vault-keys"), &saved], "cp -a /vault-keys/. /saved/"));
    lose(&new, "vault-keys");
    let up = run(&mut new.compose(["up", "--detach", "--wait", "--wait-timeout", "60", "unsealer"]));
    assert_ne!(up.code(), 0);
    let log = new.container("unsealer").log();
    assert!(log.contains("initialised") && log.contains("no key"), "{log}");
    told(&mut new.compose(["down"]));
    told(&mut new.as_root(&[&new.mounted("vault-keys"), &saved], "cp -a /saved/. /vault-keys/"));
    new.up_with(&["user"]);
    assert_eq!(new.listing("vault-keys"), keys);
}

fn lose(stack: &Stack, volume: &str) {
    told(&mut stack.compose(["down"]));
    told(&mut docker(["volume", "rm", &format!("{}_{volume}", stack.project)]));
    stack.make_volumes();
}
