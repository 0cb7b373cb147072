//! Stories that take many minutes: `cargo xtask stack`. Most of them do what docs/operate.md says.

mod backup;
mod losing;
mod several;
mod upgrade;
mod wall;

use std::fs;

use crate::adopt::adopt;
use crate::overlays::{nothing_is_had_without_tls, survives_the_loss_of_any_node, with_certificates};
use crate::stack::Stack;

const OPERATE: &str = "docs/operate.md";

#[test]
fn three_nodes_speak_tls() {
    let stack = with_certificates(Stack::new(&["ha.yaml", "tls.yaml", "ha-tls.yaml"], &[]));
    stack.make_volumes();
    stack.up_with(&["user"]);
    nothing_is_had_without_tls(&stack);
    survives_the_loss_of_any_node(&stack);
}

#[test]
fn a_stack_is_adopted_service_by_service() {
    adopt(&Stack::new(&[], &[]));
}

/// A part of a stack, with something in its database.
fn begin(overlays: &[&str]) -> Stack {
    let stack = Stack::new(overlays, &[]);
    fill(&stack);
    stack
}

fn fill(stack: &Stack) {
    stack.make_volumes();
    stack.up_with(&["user"]);
    let table = "CREATE TABLE story (what text); INSERT INTO story VALUES ('kept')";
    stack.exec("user_db", &["psql", "-qX", "-d", "users", "-c", table]).success();
}

/// What was put there; empty where there is nothing.
fn row(stack: &Stack) -> String {
    let ask = ["psql", "-qtAX", "-d", "users", "-c", "SELECT what FROM story"];
    stack.exec("user_db", &ask).stdout.trim().to_owned()
}

/// What was saved goes to where another stack is.
fn hand_over(old: &Stack, new: &Stack) {
    for entry in fs::read_dir(old.compose_dir()).unwrap().map(Result::unwrap) {
        let to = new.compose_dir().join(entry.file_name());
        if entry.path().is_file() && !to.exists() {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
