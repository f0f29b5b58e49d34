//! A new node takes no pods before it is known to be ready (kubernetes `plugin/pkg/admission/nodetaint`): the node lifecycle controller
//! removes the taint.

use k8s_openapi::api::core::v1::{Node, Taint};

use super::{Check, Operation, Request};
use crate::api::Status;

const KEY: &str = "node.kubernetes.io/not-ready";
const EFFECT: &str = "NoSchedule";

pub(super) struct TaintNodesByCondition;

impl Check for TaintNodesByCondition {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create && request.subresource().is_empty() && request.object.as_any().is::<Node>()
    }

    fn mutate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        if let Some(node) = request.object::<Node>() {
            let taints = node.spec.get_or_insert_default().taints.get_or_insert_default();
            if !taints.iter().any(|taint| taint.key == KEY && taint.effect == EFFECT) {
                taints.push(Taint { key: KEY.into(), effect: EFFECT.into(), ..Taint::default() });
            }
        }
        Ok(())
    }
}
