//! What goes wrong by itself, and comes right by itself.

use std::time::{Duration, Instant};

use harness::wait_until;

use crate::engine::{Container, docker, told};
use crate::stack::{Kept, SOON, Stack};

/// Options of a container whose root gets at the files of others.
const INSIDE: [&str; 3] = ["--pid=host", "--cap-add=SYS_PTRACE", "--security-opt=apparmor=unconfined"];

#[test]
fn a_stack_heals_by_itself() {
    let stack = Stack::new(&[], &[]).start();
    let kept = Kept::of(&stack);
    let heals = |what: &str, story: fn(&Stack)| {
        let begin = Instant::now();
        story(&stack);
        println!("{what}: well again after {:.1?}", begin.elapsed());
    };
    heals("Vault hangs", vault_hangs);
    heals("Vault is cut off", vault_is_cut_off);
    heals("a database is cut off", a_database_is_cut_off);
    heals("each program is killed", each_program_is_killed);
    heals("db-init is killed", db_init_is_killed);
    heals("memory for files is full", memory_for_files_is_full);
    assert_eq!(Kept::of(&stack), kept);
}

/// For half a minute nothing answers, and connections stay open.
fn vault_hangs(stack: &Stack) {
    let vault = stack.container("vault");
    told(&mut docker(["pause", vault.id()]));
    assert!(wait_until(SOON, || !stack.container("unsealer").is_well()), "nobody noticed");
    // Long enough that whoever waits for an answer gives up.
    let _ = wait_until(Duration::from_secs(30), || false);
    let fell_over = |container: &Container| container.is_lasting() && container.restarts() > 0;
    assert!(!stack.containers().iter().any(fell_over), "{}", stack.story());
    told(&mut docker(["unpause", vault.id()]));
    stack.wait_until_well();
    assert!(wait_until(SOON, || stack.reads("user", "user")), "{}", stack.story());
}

fn vault_is_cut_off(stack: &Stack) {
    let vault = stack.container("vault");
    let network = format!("{}_vault", stack.project);
    told(&mut docker(["network", "disconnect", &network, vault.id()]));
    assert!(wait_until(SOON, || !stack.container("unsealer").is_well()), "nobody noticed");
    assert!(!stack.reads("user", "user"));
    told(&mut docker(["network", "connect", "--alias", "vault", &network, vault.id()]));
    stack.wait_until_well();
    assert!(wait_until(SOON, || stack.reads("user", "user")), "{}", stack.story());
}

fn a_database_is_cut_off(stack: &Stack) {
    let database = stack.container("chat_db");
    let network = format!("{}_chat_db", stack.project);
    told(&mut docker(["network", "disconnect", &network, database.id()]));
    assert!(wait_until(SOON, || !stack.container("chat").is_well()), "nobody noticed");
    told(&mut docker(["network", "connect", "--alias", "chat_db", &network, database.id()]));
    stack.wait_until_well();
}

fn each_program_is_killed(stack: &Stack) {
    for service in ["unsealer", "bootstrap", "user", "vault", "user_db"] {
        let before = [stack.container(service)];
        stack.kill(&before);
        stack.wait_until_restarted(&before);
        assert!(wait_until(SOON, || stack.reads("user", "user")), "{service}\n{}", stack.story());
    }
}

/// While it waits for Vault: it is started again, and does what there was to do.
fn db_init_is_killed(stack: &Stack) {
    let vault = stack.container("vault");
    told(&mut docker(["pause", vault.id()]));
    let job = stack.container("user_db-init");
    told(&mut docker(["start", job.id()]));
    let killed = [stack.container("user_db-init")];
    assert!(killed[0].is_running(), "{}", stack.story());
    stack.kill(&killed);
    let is_back = || stack.container("user_db-init").restarts() > job.restarts();
    assert!(wait_until(SOON, is_back), "{}", stack.story());
    told(&mut docker(["unpause", vault.id()]));
    stack.wait_until_well();
}

/// Where credentials are delivered to, and where the programs keep their status, there is no room.
fn memory_for_files_is_full(stack: &Stack) {
    let mount = stack.mounted("approle-user");
    let lose_and_fill = "rm -rf /approle-user/* /approle-user/.[!.]*; \
                         dd if=/dev/zero of=/approle-user/fill 2>/dev/null || true";
    told(&mut stack.as_root(&[&mount], lose_and_fill));
    assert!(wait_until(SOON, || !stack.container("bootstrap").is_well()), "nobody noticed");
    told(&mut stack.as_root(&[&mount], "rm /approle-user/fill"));
    stack.wait_until_well();
    assert!(wait_until(SOON, || stack.reads("user", "user")), "{}", stack.story());

    let services = ["unsealer", "bootstrap", "game"];
    let status = |service: &str| format!("/proc/{}/root/run/vaultcrew", stack.container(service).pid());
    let directories = services.map(status).join(" ");
    let fill = format!("for dir in {directories}; do dd if=/dev/zero of=$dir/fill 2>/dev/null || true; done");
    told(&mut stack.as_root(&INSIDE, &fill));
    let unwell = || services.iter().any(|service| !stack.container(service).is_well());
    assert!(wait_until(SOON, unwell), "nobody noticed");
    let empty = format!("for dir in {directories}; do rm -f $dir/fill; done");
    told(&mut stack.as_root(&INSIDE, &empty));
    stack.wait_until_well();
}
