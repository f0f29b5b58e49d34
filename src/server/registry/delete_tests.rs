//! The decision on a deletion, as a table.
use super::*;
use k8s_openapi::api::core::v1::Pod;

const NOW: &str = "2026-01-01T00:00:00Z";

/// Parameters of a deletion, the plan, and the metadata after it (only what deletions change).
fn check(meta: &str, (requested, decided): (Option<i64>, Option<i64>), policy: Option<&str>, expected: Plan, after: &str) {
    let mut pod = Pod { metadata: serde_yaml::from_str(meta).expect("test metadata"), ..Pod::default() };
    let now = Time(NOW.parse().expect("a time"));
    let plan = plan(&mut pod, Grace { requested, decided }, policy, &now);
    assert_eq!(plan, expected, "{meta}");
    let after: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta = serde_yaml::from_str(after).expect("test metadata");
    assert_eq!(pod.metadata, after, "{meta}");
}

#[test]
fn first_deletion() {
    let at = |seconds: u32| format!("deletionTimestamp: '2026-01-01T00:00:{seconds:02}Z', deletionGracePeriodSeconds: {seconds}");
    check("{}", (None, None), None, Plan::Remove, &format!("{{{}}}", at(0)));
    check("{}", (None, Some(30)), None, Plan::Mark, &format!("{{{}}}", at(30)));
    check("{}", (Some(0), Some(0)), None, Plan::Remove, &format!("{{{}}}", at(0)));
    check("{generation: 4}", (None, Some(5)), None, Plan::Mark, &format!("{{generation: 5, {}}}", at(5)));
    check("{finalizers: [x/y]}", (None, None), None, Plan::Mark, &format!("{{finalizers: [x/y], {}}}", at(0)));
    check("{}", (None, None), Some("Foreground"), Plan::Mark, &format!("{{finalizers: [foregroundDeletion], {}}}", at(0)));
    check("{}", (None, None), Some("Orphan"), Plan::Mark, &format!("{{finalizers: [orphan], {}}}", at(0)));
    check("{finalizers: [orphan]}", (None, None), Some("Background"), Plan::Remove, &format!("{{{}}}", at(0)));
    check("{finalizers: [orphan]}", (None, None), None, Plan::Mark, &format!("{{finalizers: [orphan], {}}}", at(0)));
}

#[test]
fn deletion_of_what_is_being_deleted() {
    let graceful = "{deletionTimestamp: '2026-01-01T00:00:30Z', deletionGracePeriodSeconds: 30}";
    check(graceful, (None, Some(30)), None, Plan::Nothing, graceful);
    check(graceful, (Some(60), Some(60)), None, Plan::Nothing, graceful);
    let shorter = "{deletionTimestamp: '2026-01-01T00:00:10Z', deletionGracePeriodSeconds: 10}";
    check(graceful, (Some(10), Some(10)), None, Plan::Mark, shorter);
    let none = "{deletionTimestamp: '2026-01-01T00:00:00Z', deletionGracePeriodSeconds: 0}";
    check(graceful, (Some(0), Some(0)), None, Plan::Remove, none);
    let held = "{finalizers: [x/y], deletionTimestamp: '2026-01-01T00:00:00Z', deletionGracePeriodSeconds: 0}";
    check(held, (Some(0), Some(0)), None, Plan::Nothing, held);
    check(held, (None, None), None, Plan::Nothing, held);
    let orphaned = "{finalizers: [x/y, orphan], deletionTimestamp: '2026-01-01T00:00:00Z', deletionGracePeriodSeconds: 0}";
    check(held, (None, None), Some("Orphan"), Plan::Mark, orphaned);
}

#[test]
fn namespaces_wait_for_their_finalizer() {
    let parse = |text: &str| serde_yaml::from_str::<Namespace>(text).expect("a test namespace");
    let mut namespace = parse("{metadata: {name: a}, spec: {finalizers: [kubernetes]}}");
    let now = Time(NOW.parse().expect("a time"));
    let grace = Grace { requested: None, decided: None };
    assert_eq!(plan(&mut namespace, grace, None, &now), Plan::Mark);
    let marked = parse(
        "{metadata: {name: a, deletionTimestamp: '2026-01-01T00:00:00Z'}, spec: {finalizers: [kubernetes]}, status: {phase: Terminating}}",
    );
    assert_eq!(namespace, marked);
    assert_eq!(plan(&mut namespace, grace, None, &now), Plan::Nothing);
    assert!(!is_complete(&namespace));
    namespace.spec = None;
    assert!(is_complete(&namespace));
    assert_eq!(plan(&mut namespace, grace, None, &now), Plan::Remove);
}
