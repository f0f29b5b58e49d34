//! How far a rollout is, as a function of the object.

use serde_json::Value;

use crate::kubectl::error::{Error, Result};

/// What to say, and whether it is over.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    /// One line.
    pub text: String,
    /// Whether nothing is left to do.
    pub done: bool,
}

fn waiting(text: String) -> Result<State> {
    Ok(State { text, done: false })
}

fn done(text: String) -> Result<State> {
    Ok(State { text, done: true })
}

/// The state of a deployment, daemon set or stateful set.
pub fn of(object: &Value, revision: i64) -> Result<State> {
    match object["kind"].as_str().unwrap_or_default() {
        "Deployment" => deployment(object, revision),
        "DaemonSet" => daemon_set(object),
        "StatefulSet" => stateful_set(object),
        other => Error::usage(format!("no status viewer has been implemented for {other}")),
    }
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn is_observed(object: &Value) -> bool {
    number(&object["metadata"]["generation"]) <= number(&object["status"]["observedGeneration"])
}

fn deployment(object: &Value, revision: i64) -> Result<State> {
    let (name, spec, status) = (name(object), &object["spec"], &object["status"]);
    if revision > 0 {
        let now = object["metadata"]["annotations"]["deployment.kubernetes.io/revision"].as_str().and_then(|text| text.parse::<i64>().ok());
        if now != Some(revision) {
            return Error::usage(format!("desired revision ({revision}) is different from the running revision ({})", now.unwrap_or(0)));
        }
    }
    if !is_observed(object) {
        return waiting("Waiting for deployment spec update to be observed...".into());
    }
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let late = |condition: &Value| condition["type"] == "Progressing" && condition["reason"] == "ProgressDeadlineExceeded";
    if conditions.into_iter().any(late) {
        return Error::usage(format!("deployment {name:?} exceeded its progress deadline"));
    }
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    let (all, updated, available) = (number(&status["replicas"]), number(&status["updatedReplicas"]), number(&status["availableReplicas"]));
    let start = format!("Waiting for deployment {name:?} rollout to finish:");
    if updated < wanted {
        return waiting(format!("{start} {updated} out of {wanted} new replicas have been updated..."));
    }
    if all > updated {
        return waiting(format!("{start} {} old replicas are pending termination...", all - updated));
    }
    if available < updated {
        return waiting(format!("{start} {available} of {updated} updated replicas are available..."));
    }
    done(format!("deployment {name:?} successfully rolled out"))
}

fn daemon_set(object: &Value) -> Result<State> {
    let (name, status) = (name(object), &object["status"]);
    if object["spec"]["updateStrategy"]["type"] == "OnDelete" {
        return Error::usage("rollout status is only available for RollingUpdate strategy type");
    }
    if !is_observed(object) {
        return waiting("Waiting for daemon set spec update to be observed...".into());
    }
    let wanted = number(&status["desiredNumberScheduled"]);
    let (updated, available) = (number(&status["updatedNumberScheduled"]), number(&status["numberAvailable"]));
    if updated < wanted {
        return waiting(format!(
            "Waiting for daemon set {name:?} rollout to finish: {updated} out of {wanted} new pods have been updated..."
        ));
    }
    if available < wanted {
        return waiting(format!(
            "Waiting for daemon set {name:?} rollout to finish: {available} of {wanted} updated pods are available..."
        ));
    }
    done(format!("daemon set {name:?} successfully rolled out"))
}

fn stateful_set(object: &Value) -> Result<State> {
    let (spec, status) = (&object["spec"], &object["status"]);
    if spec["updateStrategy"]["type"] == "OnDelete" {
        return Error::usage("rollout status is only available for RollingUpdate strategy type");
    }
    if number(&status["observedGeneration"]) == 0 || !is_observed(object) {
        return waiting("Waiting for statefulset spec update to be observed...".into());
    }
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    let (ready, updated) = (number(&status["readyReplicas"]), number(&status["updatedReplicas"]));
    if ready < wanted {
        return waiting(format!("Waiting for {} pods to be ready...", wanted - ready));
    }
    let partition = number(&spec["updateStrategy"]["rollingUpdate"]["partition"]);
    if partition > 0 {
        return if updated < wanted - partition {
            waiting(format!(
                "Waiting for partitioned roll out to finish: {updated} out of {} new pods have been updated...",
                wanted - partition
            ))
        } else {
            done(format!("partitioned roll out complete: {updated} new pods have been updated..."))
        };
    }
    let revision = status["updateRevision"].as_str().unwrap_or_default();
    if status["updateRevision"] != status["currentRevision"] {
        return waiting(format!("waiting for statefulset rolling update to complete {updated} pods at revision {revision}..."));
    }
    done(format!("statefulset rolling update complete {} pods at revision {revision}...", number(&status["currentReplicas"])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str, expected: &str, over: bool) {
        let object: Value = serde_yaml::from_str(yaml).unwrap();
        assert_eq!(of(&object, 0).unwrap(), State { text: expected.into(), done: over }, "{yaml}");
    }

    #[test]
    fn deployments() {
        let with = |status: &str| {
            format!("{{kind: Deployment, metadata: {{name: d, generation: 2}}, spec: {{replicas: 3}}, status: {{{status}}}}}")
        };
        check(&with("observedGeneration: 1"), "Waiting for deployment spec update to be observed...", false);
        let start = "Waiting for deployment \"d\" rollout to finish:";
        let seen = "observedGeneration: 2, ";
        check(&with(&format!("{seen} updatedReplicas: 1")), &format!("{start} 1 out of 3 new replicas have been updated..."), false);
        check(
            &with(&format!("{seen} updatedReplicas: 3, replicas: 4")),
            &format!("{start} 1 old replicas are pending termination..."),
            false,
        );
        check(
            &with(&format!("{seen} updatedReplicas: 3, replicas: 3, availableReplicas: 2")),
            &format!("{start} 2 of 3 updated replicas are available..."),
            false,
        );
        check(
            &with(&format!("{seen} updatedReplicas: 3, replicas: 3, availableReplicas: 3")),
            "deployment \"d\" successfully rolled out",
            true,
        );
        let late = with("observedGeneration: 2, conditions: [{type: Progressing, reason: ProgressDeadlineExceeded}]");
        let error = of(&serde_yaml::from_str(&late).unwrap(), 0).unwrap_err();
        assert_eq!(error.to_string(), "error: deployment \"d\" exceeded its progress deadline");
        assert!(of(&serde_yaml::from_str(&with("")).unwrap(), 7).is_err());
    }

    #[test]
    fn sets() {
        let daemon = |status: &str| {
            format!("{{kind: DaemonSet, metadata: {{name: d, generation: 1}}, status: {{observedGeneration: 1, {status}}}}}")
        };
        check(
            &daemon("desiredNumberScheduled: 2, updatedNumberScheduled: 1"),
            "Waiting for daemon set \"d\" rollout to finish: 1 out of 2 new pods have been updated...",
            false,
        );
        check(
            &daemon("desiredNumberScheduled: 2, updatedNumberScheduled: 2, numberAvailable: 2"),
            "daemon set \"d\" successfully rolled out",
            true,
        );
        let stateful = |status: &str| {
            format!(
                "{{kind: StatefulSet, metadata: {{name: s, generation: 1}}, spec: {{replicas: 2}}, status: {{observedGeneration: 1, {status}}}}}"
            )
        };
        check(&stateful("readyReplicas: 1"), "Waiting for 1 pods to be ready...", false);
        check(
            &stateful("readyReplicas: 2, updatedReplicas: 1, updateRevision: b, currentRevision: a"),
            "waiting for statefulset rolling update to complete 1 pods at revision b...",
            false,
        );
        check(
            &stateful("readyReplicas: 2, currentReplicas: 2, updateRevision: b, currentRevision: b"),
            "statefulset rolling update complete 2 pods at revision b...",
            true,
        );
    }
}
