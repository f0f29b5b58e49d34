//! The label that says which nodes run a server. A node may not give it to itself (NodeRestriction), so the server does.

use k8s_openapi::api::core::v1::Node;

use crate::api::Key;
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};

const LABEL: &str = "node-role.kubernetes.io/control-plane";

/// Labels the node that runs on the server's machine.
pub struct ControlPlaneRole {
    /// Its name; empty where no agent runs.
    pub node: String,
}

impl Controller for ControlPlaneRole {
    fn name(&self) -> &'static str {
        "node-role-controller"
    }
    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger::of::<Node>()]
    }
    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        let Some(node) = view.at::<Node>(key).filter(|_| key.name() == self.node) else { return Outcome::default() };
        if node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(LABEL)) {
            return Outcome::default();
        }
        let mut node = Node::clone(&node);
        node.metadata.labels.get_or_insert_default().insert(LABEL.into(), String::new());
        vec![Op::Update(Box::new(node))].into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::check;

    #[test]
    fn only_the_servers_own_node_is_labelled() {
        let role = ControlPlaneRole { node: "n1".into() };
        let node = |name: &str, labels: &str| format!("kind: Node\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n");
        check(&role, &node("n1", "a: b"), &Key::of::<Node>("", "n1"), &["update Node n1"]);
        check(&role, &node("n1", "node-role.kubernetes.io/control-plane: ''"), &Key::of::<Node>("", "n1"), &[]);
        check(&role, &node("n2", ""), &Key::of::<Node>("", "n2"), &[]);
    }
}
