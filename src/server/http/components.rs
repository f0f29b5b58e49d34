//! ComponentStatus: what the parts of the control plane say of themselves, made when it is asked for and never stored.
//!
//! Follows upstream's `pkg/registry/core/componentstatus`: the same three names, which monitors know, although all of them are this
//! process. The store is what etcd is there.

use std::sync::Arc;

use axum::response::Response;
use k8s_openapi::api::core::v1::ComponentStatus;
use serde_json::json;

use super::{Call, reply, verbs};
use crate::api::{Key, Rev, Status};
use crate::server::registry::KindRef;
use crate::server::store::Entry;

const DEPRECATED: &str = "v1 ComponentStatus is deprecated in v1.19+";

/// GET of one or of all; there is no other verb.
pub(super) fn serve(call: &Call, kind: &KindRef) -> Result<Response, Status> {
    let mut response = match call.info.verb {
        "get" => {
            let all = states(call)?;
            let found = all.iter().find(|entry| entry.key.name() == call.info.name);
            // Upstream's plain error, without a reason.
            let found = found.ok_or_else(|| Status::new(500, "", format!("Component not found: {}", call.info.name)))?;
            verbs::object(call, kind, 200, found)?
        }
        "list" => verbs::send_list(call, kind, &call.app.registry.select(kind, states(call)?, &call.query.list()?)?)?,
        verb => return Err(Status::method_not_allowed(verb)),
    };
    reply::warn(&mut response, &[DEPRECATED.to_owned()]);
    Ok(response)
}

fn states(call: &Call) -> Result<Vec<Arc<Entry>>, Status> {
    // Controllers and scheduler run as long as the process does, once what they need is there.
    let running = call.app.readiness.ready();
    let states = [("controller-manager", running), ("etcd-0", call.app.registry.store().is_healthy()), ("scheduler", running)];
    states.iter().map(|(name, healthy)| state(name, *healthy).map(Arc::new)).collect()
}

fn state(name: &str, healthy: bool) -> Result<Entry, Status> {
    let condition = match healthy {
        true => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        false => json!({"type": "Healthy", "status": "False", "error": "it does not run, or can't write"}),
    };
    let object = json!({
        "kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name, "creationTimestamp": null}, "conditions": [condition],
    });
    Entry::decode(Key::of::<ComponentStatus>("", name), Rev(0), object.to_string().into()).map_err(Status::internal)
}
