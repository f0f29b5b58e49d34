//! Taints that the pod does not tolerate: NoSchedule and NoExecute refuse, PreferNoSchedule costs score.

use k8s_openapi::api::core::v1::{Pod, Taint};

use super::super::cycle::Context;
use super::super::node_info::NodeInfo;
use super::{Plugin, Scale};
use crate::server::reconcile::tolerates;

pub(super) struct TaintToleration;

/// Whether a toleration of the pod matches the taint.
pub(super) fn tolerated(pod: &Pod, taint: &Taint) -> bool {
    let tolerations = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    tolerations.into_iter().any(|toleration| tolerates(toleration, taint))
}

impl Plugin for TaintToleration {
    fn filter(&self, context: &Context<'_>, node: &NodeInfo) -> Vec<String> {
        let refuses = |taint: &Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute") && !tolerated(context.pod, taint);
        if node.taints().any(refuses) { vec!["node(s) had untolerated taint(s)".into()] } else { Vec::new() }
    }

    fn score(&self, context: &Context<'_>, node: &NodeInfo) -> i64 {
        let bad = node.taints().filter(|taint| taint.effect == "PreferNoSchedule" && !tolerated(context.pod, taint)).count();
        i64::try_from(bad).unwrap_or(i64::MAX)
    }

    fn scale(&self) -> Scale {
        Scale::Lowest
    }

    fn weight(&self) -> i64 {
        3
    }
}
