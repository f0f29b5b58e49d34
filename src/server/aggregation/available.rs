//! The condition `Available` of APIServices: what can be told from the store, and how it is written.
//!
//! Follows upstream's `kube-aggregator/pkg/controllers/status/{local,remote}`. Pure.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceCondition};

use crate::api::{Key, Scope};
use crate::server::store::{Entry, Snapshot};

const AVAILABLE: &str = "Available";
const OWNER: &str = "kubernetes.io/service-name";

/// Whether an APIService is available, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether.
    pub available: bool,
    /// In a word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Verdict {
    /// It is not.
    pub fn no(reason: &'static str, message: impl Into<String>) -> Verdict {
        Verdict { available: false, reason, message: message.into() }
    }

    /// This server serves it.
    pub fn local() -> Verdict {
        Verdict { available: true, reason: "Local", message: "Local APIServices are always available".into() }
    }
}

/// Whether its condition says that it is available.
pub fn is_true(service: &APIService) -> bool {
    let conditions = service.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == AVAILABLE && condition.status == "True")
}

/// Sets the condition; the time of the last transition changes only with the status.
pub fn set(service: &mut APIService, verdict: &Verdict, now: jiff::Timestamp) {
    let conditions = service.status.get_or_insert_default().conditions.get_or_insert_default();
    let status = if verdict.available { "True" } else { "False" };
    let index = conditions.iter().position(|condition| condition.type_ == AVAILABLE).unwrap_or_else(|| {
        conditions.push(APIServiceCondition { type_: AVAILABLE.into(), ..APIServiceCondition::default() });
        conditions.len() - 1
    });
    let condition = &mut conditions[index];
    if condition.status != status {
        condition.status = status.into();
        condition.last_transition_time = Some(Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now)));
    }
    condition.reason = Some(verdict.reason.into());
    condition.message = Some(verdict.message.clone());
}

/// The revisions that a check depends on: of the wanted state of the APIService (its generation is not counted, so all of it but the
/// status), of its Service, and of the slices. The first two say which APIService it is.
pub(super) fn inputs(state: &Snapshot, service: &APIService, entry: &Entry) -> Vec<u64> {
    let target = service.spec.clone().unwrap_or_default().service.unwrap_or_default();
    let (namespace, name) = (target.namespace.unwrap_or_default(), target.name.unwrap_or_default());
    let spec = serde_json::to_vec(&service.spec).unwrap_or_default();
    let digest = ring::digest::digest(&ring::digest::SHA256, &spec);
    let spec = digest.as_ref().iter().take(8).fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let uid = entry.meta().uid.as_ref().map_or(0, |uid| uid.bytes().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())));
    let mut seen = vec![spec, uid];
    seen.extend(state.get(&Key::of::<Service>(&namespace, &name)).map(|entry| entry.rev.0));
    let scope = Scope::of_namespace::<EndpointSlice>(&namespace);
    seen.extend(state.range(&scope).filter(|entry| owner(entry) == Some(&name)).map(|entry| entry.rev.0));
    seen
}

fn owner(entry: &Entry) -> Option<&String> {
    entry.meta().labels.as_ref().and_then(|labels| labels.get(OWNER))
}

/// What the store says of a remote APIService's Service; yes means that it is worth asking.
pub fn of_service(state: &Snapshot, service: &APIService) -> Verdict {
    let passed = Verdict { available: true, reason: "Passed", message: "all checks passed".into() };
    let target = service.spec.clone().unwrap_or_default().service.unwrap_or_default();
    let (namespace, name) = (target.namespace.unwrap_or_default(), target.name.unwrap_or_default());
    let port = target.port.unwrap_or(443);
    let found = state.get(&Key::of::<Service>(&namespace, &name)).and_then(|entry| entry.typed::<Service>().ok());
    let Some(found) = found else {
        return Verdict::no("ServiceNotFound", format!("service/{name} in {namespace:?} is not present"));
    };
    let spec = found.spec.clone().unwrap_or_default();
    if spec.type_.as_deref().unwrap_or("ClusterIP") != "ClusterIP" {
        return passed;
    }
    let Some(served) = spec.ports.iter().flatten().find(|served| served.port == port) else {
        return Verdict::no("ServicePortError", format!("service/{name} in {namespace:?} is not listening on port {port}"));
    };
    let port_name = served.name.clone().unwrap_or_default();
    let scope = Scope::of_namespace::<EndpointSlice>(&namespace);
    let slices = state.range(&scope).filter(|entry| owner(entry) == Some(&name)).filter_map(|entry| entry.typed::<EndpointSlice>().ok());
    let slices: Vec<_> = slices.collect();
    if slices.is_empty() {
        return Verdict::no("EndpointsNotFound", format!("cannot find endpointslices for service/{name} in {namespace:?}"));
    }
    let active = slices.iter().any(|slice| {
        let ready = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
            !endpoint.addresses.is_empty() && endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
        };
        let port = |port: &k8s_openapi::api::discovery::v1::EndpointPort| port.name.as_deref().unwrap_or_default() == port_name;
        slice.ports.iter().flatten().any(port) && slice.endpoints.iter().flatten().any(ready)
    });
    if !active {
        let why = format!("endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}");
        return Verdict::no("MissingEndpoints", why);
    }
    passed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Kind, Rev};
    use crate::server::store::Draft;

    fn object<T: Kind>(yaml: &str) -> (Key, Rev, Draft) {
        let object: T = serde_yaml::from_str(yaml).expect("test object");
        let meta = object.meta().clone();
        let key = Key::of::<T>(&meta.namespace.unwrap_or_default(), &meta.name.unwrap_or_default());
        (key, Rev(1), Draft::of(std::sync::Arc::new(object)))
    }

    #[test]
    fn verdicts() {
        let service = "{metadata: {namespace: n, name: s}, spec: {ports: [{name: https, port: 443}]}}";
        let slice = |endpoints: &str| {
            format!(
                "{{metadata: {{namespace: n, name: s-1, labels: {{kubernetes.io/service-name: s}}}}, addressType: IPv4,
                  ports: [{{name: https, port: 8443}}], endpoints: [{endpoints}]}}"
            )
        };
        let api: APIService = serde_yaml::from_str(
            "{metadata: {name: v1.g}, spec: {service: {namespace: n, name: s, port: 443},
            groupPriorityMinimum: 1, versionPriority: 1}}",
        )
        .unwrap();
        let check = |objects: Vec<(Key, Rev, Draft)>| of_service(&Snapshot::of(Rev(1), objects), &api);
        assert_eq!(check(vec![]), Verdict::no("ServiceNotFound", "service/s in \"n\" is not present"));
        let other = "{metadata: {namespace: n, name: s}, spec: {ports: [{port: 80}]}}";
        let want = Verdict::no("ServicePortError", "service/s in \"n\" is not listening on port 443");
        assert_eq!(check(vec![object::<Service>(other)]), want);
        let want = Verdict::no("EndpointsNotFound", "cannot find endpointslices for service/s in \"n\"");
        assert_eq!(check(vec![object::<Service>(service)]), want);
        let unready = slice("{addresses: [10.0.0.1], conditions: {ready: false}}");
        let missing = "endpointslices for service/s in \"n\" have no addresses with port name \"https\"";
        let want = Verdict::no("MissingEndpoints", missing);
        assert_eq!(check(vec![object::<Service>(service), object::<EndpointSlice>(&unready)]), want);
        let ready = slice("{addresses: [10.0.0.1]}");
        assert!(check(vec![object::<Service>(service), object::<EndpointSlice>(&ready)]).available);
        let external = "{metadata: {namespace: n, name: s}, spec: {type: ExternalName, externalName: x}}";
        assert!(check(vec![object::<Service>(external)]).available);
    }

    #[test]
    fn transitions_are_timed_by_the_status() {
        let mut service = APIService::default();
        let at = |second| jiff::Timestamp::from_second(second).unwrap();
        set(&mut service, &Verdict::no("ServiceNotFound", "x"), at(1));
        set(&mut service, &Verdict::no("MissingEndpoints", "y"), at(2));
        assert!(!is_true(&service));
        let condition = service.status.as_ref().unwrap().conditions.as_ref().unwrap()[0].clone();
        assert_eq!((condition.reason.as_deref(), condition.last_transition_time.map(|t| t.0)), (Some("MissingEndpoints"), Some(at(1))));
        set(&mut service, &Verdict::local(), at(3));
        assert!(is_true(&service));
        assert_eq!(service.status.unwrap().conditions.unwrap().len(), 1);
    }
}
