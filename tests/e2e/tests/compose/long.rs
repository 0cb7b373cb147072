//! Stories that take many minutes: `cargo xtask stack`.

mod operate;
mod wall;

use crate::overlays::{nothing_is_had_without_tls, survives_the_loss_of_any_node, with_certificates};
use crate::stack::Stack;

#[test]
fn three_nodes_speak_tls() {
    let stack = with_certificates(Stack::new(&["ha.yaml", "tls.yaml", "ha-tls.yaml"], &[]));
    stack.make_volumes();
    stack.up_with(&["user"]);
    nothing_is_had_without_tls(&stack);
    survives_the_loss_of_any_node(&stack);
}
