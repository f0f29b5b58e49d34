//! Events are kept for an hour, as upstream's API server does with a storage lease.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event as CoreEvent;

use super::pods;
use crate::api::Key;
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};

/// How long, in seconds.
const TTL: i64 = 3600;

/// Removes old events.
pub struct EventTtl;

impl Controller for EventTtl {
    fn name(&self) -> &'static str {
        "event-ttl-controller"
    }
    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger::of::<CoreEvent>()]
    }
    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        let Some(event) = view.at::<CoreEvent>(key) else { return Outcome::default() };
        let times = [event.last_timestamp.as_ref().map(|t| t.0), event.event_time.as_ref().map(|t| t.0)];
        let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|t| t.0);
        let created = event.metadata.creation_timestamp.as_ref().map(|t| t.0);
        let Some(last) = times.into_iter().chain([series, created]).flatten().max() else { return Outcome::default() };
        match pods::remaining(last, TTL, view.now()) {
            Some(wait) => Outcome { ops: Vec::new(), again: Some(wait.max(Duration::from_secs(1))) },
            None => vec![Op::delete(&*event)].into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::check;

    #[test]
    fn an_hour_after_the_last_time() {
        let event = |last: &str| {
            format!(
                "kind: Event\nmetadata: {{name: e, namespace: default, creationTimestamp: '2025-12-31T20:00:00Z'}}\ninvolvedObject: {{}}\nlastTimestamp: '{last}'"
            )
        };
        let key = Key::of::<CoreEvent>("default", "e");
        check(&EventTtl, &event("2025-12-31T22:59:59Z"), &key, &["delete /events/default/e"]);
        assert_eq!(check(&EventTtl, &event("2025-12-31T23:30:00Z"), &key, &[]).again, Some(Duration::from_secs(1800)));
    }
}
