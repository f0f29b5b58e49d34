//! How much one object is (`pkg/quota/v1/evaluator/core`, apiserver `pkg/quota/v1/generic`).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::resource::v1::{DeviceRequest, ResourceClaim};

use super::Item;
use crate::api::amounts::Amounts;
use crate::api::pod::{Column, charged};
use crate::api::quantity::{Format, Quantity};
use crate::api::status::qualified;

/// The measure of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    /// What counts for as long as the object is stored.
    pub stored: Amounts,
    /// What counts only while it is alive: a pod that ended, or one whose node is lost, holds nothing but its place in storage.
    pub alive: Amounts,
    /// When what counts for the living stops counting, if that is decided.
    pub ends: Option<Timestamp>,
}

impl Measure {
    /// All that counts at `now`.
    pub fn at(mut self, now: Timestamp) -> Amounts {
        if self.ends.is_none_or(|ends| now <= ends) {
            self.stored.add(&self.alive);
        }
        self.stored
    }
}

/// Kinds that quotas ignore: what is not stored, and events.
const UNCOUNTED: &[(&str, &str)] = &[
    ("", "bindings"),
    ("", "componentstatuses"),
    ("", "events"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("events.k8s.io", "events"),
];

/// Counted under their bare names too, from before `count/` was there.
const BARE: &[&str] = &["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];

const POD: &[&str] = &[
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "pods",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const SERVICE: &[&str] = &["services", "services.loadbalancers", "services.nodeports"];
const VOLUME: &[&str] = &["persistentvolumeclaims", "requests.storage"];
const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
const DEVICE_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
const LEGACY_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// The most devices that one claim can get, which is what "all of them" is charged as.
const MOST_DEVICES: i64 = 32;

/// Whether objects of this resource take part in quotas at all.
pub fn is_counted(group: &str, resource: &str) -> bool {
    !UNCOUNTED.contains(&(group, resource))
}

/// Whether objects of this resource are measured in `name`.
pub fn tracks(group: &str, resource: &str, name: &str) -> bool {
    if name.strip_prefix("count/").is_some_and(|counted| counted == qualified(group, resource)) {
        return true;
    }
    match (group, resource) {
        ("", "pods") => {
            let huge = name.strip_prefix("requests.").unwrap_or(name).starts_with("hugepages-");
            POD.contains(&name) || huge || (name.starts_with("requests.") && !is_native(name))
        }
        ("", "services") => SERVICE.contains(&name),
        ("", "persistentvolumeclaims") => {
            VOLUME.contains(&name) || name.split_once(STORAGE_CLASS).is_some_and(|(_, rest)| VOLUME.contains(&rest))
        }
        ("resource.k8s.io", "resourceclaims") => name.ends_with(DEVICE_CLASS),
        ("", _) => BARE.contains(&resource) && name == resource,
        _ => false,
    }
}

/// Whether a resource is one of Kubernetes' own, as opposed to an extended one.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// The measure of one object.
pub fn measure(group: &str, resource: &str, item: Item<'_>) -> Measure {
    let mut measure = Measure::default();
    let stored = &mut measure.stored;
    stored.set(format!("count/{}", qualified(group, resource)), one());
    match item {
        Item::Pod(pod) => {
            measure.ends = ends(pod);
            if !is_terminal(pod) {
                measure.alive = of_pod(&charged(pod, Column::Requests), &charged(pod, Column::Limits));
            }
        }
        Item::Service(service) => of_service(stored, service),
        Item::Volume(claim) => of_volume(stored, claim),
        Item::Devices(claim) => of_devices(stored, claim),
        Item::Other if group.is_empty() && BARE.contains(&resource) => stored.set(resource, one()),
        Item::Other => {}
    }
    measure
}

fn one() -> Quantity {
    whole(1)
}

fn whole(count: i64) -> Quantity {
    Quantity::from_value(count, Format::DecimalSi)
}

fn is_terminal(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Failed" | "Succeeded"))
}

/// A pod that is still there a grace period after its deadline is stuck, and does not keep its owner from getting another.
fn ends(pod: &Pod) -> Option<Timestamp> {
    let (deadline, grace) = (pod.metadata.deletion_timestamp.as_ref()?, pod.metadata.deletion_grace_period_seconds?);
    deadline.0.checked_add(SignedDuration::from_secs(grace)).ok()
}

/// What a pod or container with these requests and limits is charged, in all names.
pub(super) fn of_pod(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut amounts = Amounts::default();
    amounts.set("pods", one());
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(request) = requests.get(name) {
            amounts.set(name, request);
            amounts.set(format!("requests.{name}"), request);
        }
        if let Some(limit) = limits.get(name) {
            amounts.set(format!("limits.{name}"), limit);
        }
    }
    for (name, request) in requests.iter() {
        let huge = name.starts_with("hugepages-");
        if huge {
            amounts.set(name, request);
        }
        if huge || !(is_native(name) || name.starts_with("requests.")) {
            amounts.set(format!("requests.{name}"), request);
        }
    }
    amounts
}

fn of_service(amounts: &mut Amounts, service: &Service) {
    let spec = service.spec.as_ref();
    let ports = || spec.into_iter().flat_map(|spec| spec.ports.iter().flatten());
    let kind = spec.and_then(|spec| spec.type_.as_deref());
    let allocates = spec.and_then(|spec| spec.allocate_load_balancer_node_ports) != Some(false);
    let node_ports = match kind {
        Some("NodePort") => ports().count(),
        // They are not allocated yet: what counts is the intent.
        Some("LoadBalancer") if allocates => ports().count(),
        Some("LoadBalancer") => ports().filter(|port| port.node_port.is_some_and(|port| port != 0)).count(),
        _ => 0,
    };
    amounts.set("services", one());
    amounts.set("services.nodeports", whole(node_ports.try_into().unwrap_or(i64::MAX)));
    amounts.set("services.loadbalancers", whole((kind == Some("LoadBalancer")).into()));
}

fn of_volume(amounts: &mut Amounts, claim: &PersistentVolumeClaim) {
    let spec = claim.spec.as_ref();
    let legacy = claim.metadata.annotations.as_ref().and_then(|all| all.get(LEGACY_CLASS));
    let class = legacy.or(spec.and_then(|spec| spec.storage_class_name.as_ref())).filter(|class| !class.is_empty());
    let resources = spec.and_then(|spec| spec.resources.as_ref());
    let requested = Amounts::of(resources.and_then(|resources| resources.requests.as_ref())).get("storage");
    let allocated = Amounts::of(claim.status.as_ref().and_then(|status| status.allocated_resources.as_ref())).get("storage");
    let size = requested.map(|requested| allocated.map_or(requested, |allocated| allocated.max(requested)));
    // Bytes are whole.
    let size = size.map(|size| if Quantity::from_value(size.value(), size.format()) == size { size } else { whole(size.value()) });
    let mut put = |name: &str, amount: Quantity| {
        if let Some(class) = class {
            amounts.set(format!("{class}{STORAGE_CLASS}{name}"), amount);
        }
        amounts.set(name, amount);
    };
    put("persistentvolumeclaims", one());
    if let Some(size) = size {
        put("requests.storage", size);
    }
}

fn of_devices(amounts: &mut Amounts, claim: &ResourceClaim) {
    let devices = claim.spec.as_ref().and_then(|spec| spec.devices.as_ref());
    for request in devices.iter().flat_map(|devices| devices.requests.iter().flatten()) {
        amounts.add(&of_request(request));
    }
}

/// One device request; of alternatives, the most that any takes of a class.
fn of_request(request: &DeviceRequest) -> Amounts {
    let count = |mode: Option<&str>, count: Option<i64>| whole(if mode == Some("All") { MOST_DEVICES } else { count.unwrap_or(1) });
    let mut amounts = Amounts::default();
    if let Some(exact) = &request.exactly {
        amounts.set(format!("{}{DEVICE_CLASS}", exact.device_class_name), count(exact.allocation_mode.as_deref(), exact.count));
    }
    for other in request.first_available.iter().flatten() {
        let name = format!("{}{DEVICE_CLASS}", other.device_class_name);
        amounts.raise_to(&Amounts::from_iter([(name, count(other.allocation_mode.as_deref(), other.count))]));
    }
    amounts
}
