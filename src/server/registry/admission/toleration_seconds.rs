//! Pods bear an unready or unreachable node for a while (five minutes, unless the server is told otherwise) unless they say otherwise
//! (kubernetes `plugin/pkg/admission/defaulttolerationseconds`).

use k8s_openapi::api::core::v1::{Pod, Toleration};

use super::{Check, RegistryConfig, Request};
use crate::api::Status;

/// The taints, and for how long each is borne.
fn taints(config: &RegistryConfig) -> [(&'static str, u32); 2] {
    [("node.kubernetes.io/not-ready", config.not_ready_toleration), ("node.kubernetes.io/unreachable", config.unreachable_toleration)]
}

const EFFECT: &str = "NoExecute";

pub(super) struct DefaultTolerationSeconds;

impl Check for DefaultTolerationSeconds {
    fn mutate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let parts = request.parts;
        let Some(spec) = request.object::<Pod>().and_then(|pod| pod.spec.as_mut()) else { return Ok(()) };
        for (taint, seconds) in taints(&parts.config) {
            let covers = |toleration: &Toleration| {
                let matches = |part: &Option<String>, wanted: &str| part.as_deref().is_none_or(|part| part.is_empty() || part == wanted);
                matches(&toleration.key, taint) && matches(&toleration.effect, EFFECT)
            };
            if spec.tolerations.iter().flatten().any(covers) {
                continue;
            }
            spec.tolerations.get_or_insert_default().push(Toleration {
                key: Some(taint.into()),
                operator: Some("Exists".into()),
                effect: Some(EFFECT.into()),
                toleration_seconds: Some(seconds.into()),
                ..Toleration::default()
            });
        }
        Ok(())
    }
}
