//! Pods bear an unready or unreachable node for five minutes unless they say otherwise
//! (kubernetes `plugin/pkg/admission/defaulttolerationseconds`).

use k8s_openapi::api::core::v1::{Pod, Toleration};

use super::{Check, Request};
use crate::api::Status;

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const SECONDS: i64 = 300;
const EFFECT: &str = "NoExecute";

pub(super) struct DefaultTolerationSeconds;

impl Check for DefaultTolerationSeconds {
    fn mutate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let Some(spec) = request.object::<Pod>().and_then(|pod| pod.spec.as_mut()) else { return Ok(()) };
        for taint in TAINTS {
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
                toleration_seconds: Some(SECONDS),
                ..Toleration::default()
            });
        }
        Ok(())
    }
}
