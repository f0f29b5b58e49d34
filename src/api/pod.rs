//! What a pod asks for as a whole, and the class that follows from it.
//!
//! Follows component-helpers `resource/helpers.go` (`PodRequests`, `PodLimits`) and `pkg/apis/core/v1/helper/qos`. Pure.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, EphemeralContainer, Pod, PodSpec, ResourceRequirements};

use super::amounts::Amounts;
use super::quantity::Quantity;

/// One of the two columns of `resources`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// What must be there.
    Requests,
    /// What may not be exceeded.
    Limits,
}

impl Column {
    fn of(self, resources: Option<&ResourceRequirements>) -> Amounts {
        Amounts::of(resources.and_then(|resources| match self {
            Column::Requests => resources.requests.as_ref(),
            Column::Limits => resources.limits.as_ref(),
        }))
    }
}

/// Whether an init container runs beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// An ephemeral container as a container: the fields that both have.
pub fn as_container(container: &EphemeralContainer) -> Container {
    Container {
        args: container.args.clone(),
        command: container.command.clone(),
        env: container.env.clone(),
        env_from: container.env_from.clone(),
        image: container.image.clone(),
        image_pull_policy: container.image_pull_policy.clone(),
        name: container.name.clone(),
        security_context: container.security_context.clone(),
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        termination_message_path: container.termination_message_path.clone(),
        termination_message_policy: container.termination_message_policy.clone(),
        tty: container.tty,
        volume_devices: container.volume_devices.clone(),
        volume_mounts: container.volume_mounts.clone(),
        working_dir: container.working_dir.clone(),
        ..Container::default()
    }
}

/// Whether the pod as a whole may say how much it wants of this.
pub fn is_pod_level(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory") || resource.starts_with("hugepages-")
}

/// What the specification asks for, without the overhead: the containers together with the sidecars, or the largest init container
/// with the sidecars started before it, whichever is more; what the pod as a whole asks for takes the place of that.
pub fn total(spec: &PodSpec, column: Column) -> Amounts {
    sum(spec, column, &|container| column.of(container.resources.as_ref()))
}

/// What a pod takes of its namespace's quota: overhead included, and while a resize is under way, the larger of what is wanted and what
/// the container has.
pub fn charged(pod: &Pod, column: Column) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::default() };
    let status = pod.status.as_ref();
    let statuses = status
        .into_iter()
        .flat_map(|status| status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten()));
    let statuses: Vec<&ContainerStatus> = statuses.filter(|status| status.resources.is_some()).collect();
    let conditions = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
    // What the node can never give is not waited for.
    let is_refused = conditions.into_iter().any(|c| c.type_ == "PodResizePending" && c.reason.as_deref() == Some("Infeasible"));
    let mut total = sum(spec, column, &|container| {
        let mut amounts = column.of(container.resources.as_ref());
        if let Some(status) = statuses.iter().find(|status| status.name == container.name) {
            if is_refused {
                amounts = Amounts::default();
            }
            amounts.raise_to(&column.of(status.resources.as_ref()));
            if column == Column::Requests {
                amounts.raise_to(&Amounts::of(status.allocated_resources.as_ref()));
            }
        }
        amounts
    });
    add_overhead(spec, column, &mut total);
    total
}

/// What the node of a pod sets aside for it: what is asked for, with the overhead.
pub fn whole(spec: &PodSpec, column: Column) -> Amounts {
    let mut total = total(spec, column);
    add_overhead(spec, column, &mut total);
    total
}

fn add_overhead(spec: &PodSpec, column: Column, total: &mut Amounts) {
    let overhead = Amounts::of(spec.overhead.as_ref());
    match column {
        Column::Requests => total.add(&overhead),
        // A pod without a limit gets none from its overhead.
        Column::Limits => {
            let limited = overhead.only(|name| total.get(name).is_some_and(|limit| !limit.is_zero()));
            total.add(&limited);
        }
    }
}

fn sum(spec: &PodSpec, column: Column, of: &dyn Fn(&Container) -> Amounts) -> Amounts {
    let mut total = Amounts::default();
    for container in &spec.containers {
        total.add(&of(container));
    }
    let (mut sidecars, mut peak) = (Amounts::default(), Amounts::default());
    for container in spec.init_containers.iter().flatten() {
        let mut amounts = of(container);
        if is_sidecar(container) {
            sidecars.add(&amounts);
            peak.raise_to(&sidecars);
        } else {
            amounts.add(&sidecars);
            peak.raise_to(&amounts);
        }
    }
    total.add(&sidecars);
    total.raise_to(&peak);
    for (name, amount) in column.of(spec.resources.as_ref()).iter().filter(|(name, _)| is_pod_level(name)) {
        total.set(name, amount);
    }
    total
}

/// `Guaranteed`, `Burstable` or `BestEffort`, by the requests and limits of CPU and memory.
pub fn qos_class(spec: &PodSpec) -> &'static str {
    let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
    // Requests and limits of the pod as a whole take the place of its containers'.
    let sets: Vec<Option<&ResourceRequirements>> = match &spec.resources {
        Some(resources) if resources.requests.is_some() || resources.limits.is_some() => vec![Some(resources)],
        _ => containers().map(|container| container.resources.as_ref()).collect(),
    };
    let mut any = false;
    let mut guaranteed = !sets.is_empty();
    for set in sets {
        for name in ["cpu", "memory"] {
            let amount = |column: Column| positive(column.of(set).get(name));
            let (request, limit) = (amount(Column::Requests), amount(Column::Limits));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// A quantity above zero.
fn positive(amount: Option<Quantity>) -> Option<Quantity> {
    amount.filter(|amount| *amount > Quantity::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(yaml: &str) -> Pod {
        serde_yaml::from_str(yaml).expect("a pod")
    }

    #[test]
    fn sums() {
        // (spec, requests, limits)
        let cases = [
            ("{containers: []}", "", ""),
            (
                "{containers: [{name: a, resources: {requests: {cpu: 1, memory: 1Gi}, limits: {cpu: 2}}}, {name: b, resources: {requests: {cpu: 500m}}}]}",
                "cpu=1500m,memory=1Gi",
                "cpu=2",
            ),
            (
                "{initContainers: [{name: i, resources: {requests: {cpu: 3}}}], containers: [{name: a, resources: {requests: {cpu: 1}}}]}",
                "cpu=3",
                "",
            ),
            (
                "{initContainers: [{name: s, restartPolicy: Always, resources: {requests: {cpu: 1}}}, {name: i, resources: {requests: {cpu: 1500m}}}],
                  containers: [{name: a, resources: {requests: {cpu: 1}}}]}",
                "cpu=2500m",
                "",
            ),
            (
                "{resources: {requests: {cpu: 9}, limits: {cpu: 9}}, containers: [{name: a, resources: {requests: {cpu: 1, memory: 1}}}]}",
                "cpu=9,memory=1",
                "cpu=9",
            ),
            (
                "{overhead: {cpu: 250m, memory: 1Gi}, containers: [{name: a, resources: {requests: {cpu: 1}, limits: {cpu: 1}}}]}",
                "cpu=1250m,memory=1Gi",
                "cpu=1250m",
            ),
        ];
        for (spec, requests, limits) in cases {
            let pod = pod(&format!("{{metadata: {{name: p}}, spec: {spec}}}"));
            assert_eq!(charged(&pod, Column::Requests).to_string(), requests, "{spec}");
            assert_eq!(charged(&pod, Column::Limits).to_string(), limits, "{spec}");
        }
    }

    #[test]
    fn a_resize_under_way_counts_as_the_larger() {
        let pod = pod("{metadata: {name: p}, spec: {containers: [{name: a, resources: {requests: {cpu: 1}}}]},
            status: {containerStatuses: [{name: a, image: i, imageID: '', ready: true, restartCount: 0, resources: {requests: {cpu: 2}}}]}}");
        assert_eq!(charged(&pod, Column::Requests).to_string(), "cpu=2");
        let mut refused = pod.clone();
        refused.spec = serde_yaml::from_str("{containers: [{name: a, resources: {requests: {cpu: 7}}}]}").expect("a spec");
        assert_eq!(charged(&refused, Column::Requests).to_string(), "cpu=7");
        let condition = "{conditions: [{type: PodResizePending, status: 'True', reason: Infeasible}]}";
        let conditions: k8s_openapi::api::core::v1::PodStatus = serde_yaml::from_str(condition).expect("a status");
        refused.status.as_mut().expect("a status").conditions = conditions.conditions;
        assert_eq!(charged(&refused, Column::Requests).to_string(), "cpu=2");
        assert_eq!(total(pod.spec.as_ref().expect("a spec"), Column::Requests).to_string(), "cpu=1");
    }
}
