//! Deployments and replica sets.

use jiff::Timestamp;
use serde_json::Value;

use super::pod;
use super::text::{Text, controller, show};
use crate::kubectl::{pods, time};

fn selector(object: &Value) -> String {
    pods::selector(object).unwrap_or_else(|| "<unset>".into())
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

/// A deployment and its replica sets.
pub(super) fn deployment(text: &mut Text, object: &Value, sets: &[Value], _: Timestamp) {
    let (spec, status) = (&object["spec"], &object["status"]);
    text.head(object);
    text.line(0, &format!("CreationTimestamp:\t{}", time::rfc1123(&object["metadata"]["creationTimestamp"])));
    text.pairs(object);
    text.line(0, &format!("Selector:\t{}", selector(object)));
    text.line(
        0,
        &format!(
            "Replicas:\t{} desired | {} updated | {} total | {} available | {} unavailable",
            spec["replicas"].as_i64().unwrap_or(1),
            number(&status["updatedReplicas"]),
            number(&status["replicas"]),
            number(&status["availableReplicas"]),
            number(&status["unavailableReplicas"])
        ),
    );
    text.field(0, "StrategyType", &spec["strategy"]["type"]);
    text.line(0, &format!("MinReadySeconds:\t{}", number(&spec["minReadySeconds"])));
    let rolling = &spec["strategy"]["rollingUpdate"];
    if rolling.is_object() {
        text.line(
            0,
            &format!(
                "RollingUpdateStrategy:\t{} max unavailable, {} max surge",
                show(&rolling["maxUnavailable"]),
                show(&rolling["maxSurge"])
            ),
        );
    }
    text.line(0, "Pod Template:");
    pod::template(text, &spec["template"], 1);
    text.conditions(object, &[("Type", "type"), ("Status", "status"), ("Reason", "reason")]);
    let revision = |object: &Value| {
        object["metadata"]["annotations"]["deployment.kubernetes.io/revision"].as_str().and_then(|text| text.parse::<i64>().ok())
    };
    let line = |set: &Value| {
        format!(
            "{} ({}/{} replicas created)",
            show(&set["metadata"]["name"]),
            number(&set["status"]["replicas"]),
            number(&set["spec"]["replicas"])
        )
    };
    let (new, old): (Vec<&Value>, Vec<&Value>) = sets.iter().partition(|set| revision(set).is_some() && revision(set) == revision(object));
    let join =
        |sets: Vec<&Value>| if sets.is_empty() { "<none>".to_string() } else { sets.into_iter().map(line).collect::<Vec<_>>().join(", ") };
    text.line(0, &format!("OldReplicaSets:\t{}", join(old)));
    text.line(0, &format!("NewReplicaSet:\t{}", join(new)));
}

/// A replica set and the state of its pods.
pub(super) fn replica_set(text: &mut Text, object: &Value, pods: &[Value], _: Timestamp) {
    text.head(object);
    text.line(0, &format!("Selector:\t{}", selector(object)));
    text.pairs(object);
    if let Some(owner) = controller(object) {
        text.line(0, &format!("Controlled By:\t{owner}"));
    }
    text.line(
        0,
        &format!(
            "Replicas:\t{} current / {} desired",
            number(&object["status"]["replicas"]),
            object["spec"]["replicas"].as_i64().unwrap_or(1)
        ),
    );
    let uid = &object["metadata"]["uid"];
    let own =
        pods.iter().filter(|pod| pod["metadata"]["ownerReferences"].as_array().into_iter().flatten().any(|owner| owner["uid"] == *uid));
    let phases: Vec<&str> = own.map(|pod| pod["status"]["phase"].as_str().unwrap_or("Pending")).collect();
    let count = |phase: &str| phases.iter().filter(|own| **own == phase).count();
    text.line(
        0,
        &format!(
            "Pods Status:\t{} Running / {} Waiting / {} Succeeded / {} Failed",
            count("Running"),
            count("Pending"),
            count("Succeeded"),
            count("Failed")
        ),
    );
    text.line(0, "Pod Template:");
    pod::template(text, &object["spec"]["template"], 1);
    text.conditions(object, &[("Type", "type"), ("Status", "status"), ("Reason", "reason")]);
}
