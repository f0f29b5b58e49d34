//! The parameters that a binding names.

use k8s_openapi::api::admissionregistration::v1::{ParamKind, ParamRef};
use serde_json::Value;

use super::super::Request;
use crate::api::selector::LabelSelector;
use crate::server::registry::KindRef;

/// The kind of a policy's parameters; `None` if it has none. The error is that there is no such kind.
pub(super) fn kind_of(request: &Request<'_>, kind: Option<&ParamKind>) -> Result<Option<KindRef>, String> {
    let Some(kind) = kind else { return Ok(None) };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (api_version, name) = (text(&kind.api_version), text(&kind.kind));
    let found = request.registry.kinds().into_iter().find(|row| row.api_version() == api_version && row.kind() == name);
    found.map(Some).ok_or_else(|| {
        let group_version = if api_version.contains('/') { api_version } else { format!("/{api_version}") };
        format!("failed to find resource referenced by paramKind: '{group_version}, Kind={name}'")
    })
}

/// The parameters, each of which is judged by; `[None]` where there are none to be had, `[]` if that means not to judge.
pub(super) async fn collect(request: &Request<'_>, kind: Option<&KindRef>, param: Option<&ParamRef>) -> Result<Vec<Option<Value>>, String> {
    let (Some(kind), Some(param)) = (kind, param) else { return Ok(vec![None]) };
    let given = param.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    let namespace = match (kind.info.namespaced, given) {
        (false, None) => String::new(),
        (false, Some(_)) => return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into()),
        (true, Some(namespace)) => namespace.into(),
        (true, None) => request.namespace_asked(),
    };
    if kind.info.namespaced && namespace.is_empty() {
        return Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".into());
    }
    let entries = match (param.name.as_deref().filter(|name| !name.is_empty()), &param.selector) {
        (Some(name), _) => kind.key(&namespace, name).and_then(|key| request.snapshot.get(&key).cloned()).into_iter().collect(),
        (None, Some(selector)) => {
            let selector = LabelSelector::from_api(Some(selector)).map_err(|error| error.to_string())?;
            let selected = request.snapshot.range(&kind.scope(&namespace)).filter(|entry| selector.matches(entry.meta().labels.as_ref()));
            selected.cloned().collect::<Vec<_>>()
        }
        (None, None) => return Err("one of name or selector must be provided".into()),
    };
    if entries.is_empty() && param.parameter_not_found_action.as_deref() == Some("Deny") {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    let served = kind.serve(entries).await.map_err(|status| status.message)?;
    let trees = served.iter().map(|entry| serde_json::from_slice(&entry.json).map(|tree| Some(kind.relabel(tree))));
    trees.collect::<Result<_, _>>().map_err(|error| error.to_string())
}
