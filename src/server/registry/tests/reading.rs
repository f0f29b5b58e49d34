//! List, watch, conversion, printing.
use super::*;
use crate::api::Rev;
use crate::api::selector::{FieldSelector, LabelSelector};

fn labels(text: &str) -> LabelSelector {
    LabelSelector::parse(text).expect("a selector")
}

fn fields(text: &str) -> FieldSelector {
    FieldSelector::parse(text).expect("a selector")
}

fn names(list: &List) -> Vec<&str> {
    list.items.iter().map(|entry| entry.key.name()).collect()
}

#[tokio::test]
async fn pages_show_one_revision() {
    let fixture = Fixture::new().await;
    for name in ["a", "b", "c"] {
        fixture.create("configmaps", &format!("{{metadata: {{name: {name}, labels: {{'n': {name}}}}}}}")).await.expect("created");
    }
    let list = async |options: ListOptions| fixture.registry.list(fixture.kind("configmaps"), "default", &options).await;
    let first = list(ListOptions { limit: 2, ..ListOptions::default() }).await.expect("listed");
    assert_eq!((names(&first), first.remaining), (vec!["a", "b"], Some(1)));
    fixture.create("configmaps", "{metadata: {name: bb}}").await.expect("created");
    let next = ListOptions { limit: 2, continue_token: first.continue_token.clone(), ..ListOptions::default() };
    let second = list(next.clone()).await.expect("listed");
    assert_eq!((names(&second), second.rev, second.continue_token.clone()), (vec!["c"], first.rev, None));
    let found =
        async |options: ListOptions| names(&list(options).await.expect("listed")).into_iter().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(found(ListOptions::default()).await, ["a", "b", "bb", "c"]);
    assert_eq!(found(ListOptions { labels: labels("n in (a,c)"), ..ListOptions::default() }).await, ["a", "c"]);
    assert_eq!(found(ListOptions { fields: fields("metadata.name=b"), ..ListOptions::default() }).await, ["b"]);
    assert_eq!(found(ListOptions { fields: fields("metadata.name!=b"), ..ListOptions::default() }).await.len(), 3);
    let exact = |rev, rev_match: &str| ListOptions { rev: Some(rev), rev_match: Some(rev_match.into()), ..ListOptions::default() };
    assert_eq!(found(exact(first.rev, "Exact")).await, ["a", "b", "c"]);
    assert_eq!(refusal(list(exact(Rev(1), "Exact")).await).0, 410);
    assert_eq!(refusal(list(exact(Rev(u64::MAX), "NotOlderThan")).await).0, 504);
    assert_eq!(refusal(list(ListOptions { rev: Some(Rev(1)), ..next }).await).0, 400);
    let elsewhere = fixture.registry.list(fixture.kind("configmaps"), "x/y", &ListOptions::default()).await.expect("listed");
    assert!(elsewhere.items.is_empty(), "an impossible namespace is not all of them");
    let unknown = list(ListOptions { fields: fields("spec.x=y"), ..ListOptions::default() }).await;
    assert_eq!(refusal(unknown), (400, "field label not supported: spec.x".into()));
    let labelled = ListOptions { labels: labels("n"), ..ListOptions::default() };
    let (delete, options) = (DeleteOptions::default(), WriteOptions::default());
    let gone = fixture.registry.delete_collection(fixture.kind("configmaps"), "default", &labelled, &delete, &options).await;
    assert_eq!(gone.expect("deleted").len(), 3);
    assert_eq!(found(ListOptions::default()).await, ["bb"]);
}

/// The next events as `TYPE NAME`.
async fn events(watch: &mut ObjectWatch, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    for _ in 0..count {
        let event = tokio::time::timeout(std::time::Duration::from_secs(10), watch.next()).await.expect("an event within the deadline");
        found.push(match event {
            WatchEvent::Added(entry) => format!("ADDED {}", entry.key.name()),
            WatchEvent::Modified(entry) => format!("MODIFIED {}", entry.key.name()),
            WatchEvent::Deleted(entry) => {
                assert_eq!(entry.meta().resource_version, Some(entry.rev.to_string()));
                let labels = entry.meta().labels.clone().unwrap_or_default();
                format!("DELETED {} {labels:?}", entry.key.name())
            }
            WatchEvent::Bookmark { initial_end, .. } => format!("BOOKMARK {initial_end}"),
            WatchEvent::Expired(status) => format!("ERROR {}", status.code),
            WatchEvent::Closed => "CLOSED".into(),
        });
    }
    found
}

#[tokio::test]
async fn watches_see_selections() {
    let fixture = Fixture::new().await;
    let label = |name: &str, value: &str| format!("{{metadata: {{name: {name}, labels: {{l: '{value}'}}}}}}");
    fixture.create("configmaps", &label("a", "x")).await.expect("created");
    let options = WatchOptions { labels: labels("l=x"), bookmarks: true, initial_events: true, ..WatchOptions::default() };
    let mut watch = fixture.registry.watch(fixture.kind("configmaps"), "default", options).await.expect("started");
    fixture.create("configmaps", &label("b", "y")).await.expect("created");
    for value in ["y", "x"] {
        fixture.update("configmaps", "a", Part::Main, &label("a", value)).await.expect("accepted");
    }
    fixture.update("configmaps", "a", Part::Main, "{metadata: {name: a, labels: {l: x, m: 'n'}}}").await.expect("accepted");
    fixture.delete("configmaps", "b", DeleteOptions::default()).await.expect("deleted");
    fixture.delete("configmaps", "a", DeleteOptions::default()).await.expect("deleted");
    let expected =
        ["ADDED a", "BOOKMARK true", "DELETED a {\"l\": \"x\"}", "ADDED a", "MODIFIED a", "DELETED a {\"l\": \"x\", \"m\": \"n\"}"];
    assert_eq!(events(&mut watch, expected.len()).await, expected);

    let after = fixture.registry.store().snapshot().rev();
    fixture.create("configmaps", &label("c", "x")).await.expect("created");
    let options = WatchOptions { rev: Some(after), fields: fields("metadata.name=c"), ..WatchOptions::default() };
    let mut watch = fixture.registry.watch(fixture.kind("configmaps"), "default", options).await.expect("started");
    assert_eq!(events(&mut watch, 1).await, ["ADDED c"]);
    let future = WatchOptions { rev: Some(Rev(u64::MAX)), ..WatchOptions::default() };
    assert_eq!(refusal(fixture.registry.watch(fixture.kind("configmaps"), "default", future).await).0, 504);
}

#[tokio::test]
async fn one_object_in_two_versions() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    let old = registry.kind("", "v1", "events").expect("served");
    let new = registry.kind("events.k8s.io", "v1", "events").expect("served");
    let text = "{metadata: {name: e}, regarding: {kind: Pod, name: p}, note: hello}";
    registry.create(&new, "default", body(text), &WriteOptions::default()).await.expect("created");
    let as_old = json(&registry.get(&old, "default", "e").await.expect("is there"));
    let as_new = json(&registry.get(&new, "default", "e").await.expect("is there"));
    assert_eq!((&as_old["apiVersion"], &as_old["message"]), (&"v1".into(), &"hello".into()));
    assert_eq!((&as_new["apiVersion"], &as_new["note"]), (&"events.k8s.io/v1".into(), &"hello".into()));
    assert_eq!(as_old["metadata"]["resourceVersion"], as_new["metadata"]["resourceVersion"]);
    let key = Key::new("", "events", "default", "e");
    assert_eq!(registry.kind_of_key(&key).map(|kind| kind.group().to_owned()), Some(String::new()));
    let row = new.row(&registry.get(&new, "default", "e").await.expect("is there"), Timestamp::now()).expect("printed");
    assert_eq!(row, [strategy::Cell::Text("e".into())]);
}

#[test]
fn verbs_can_be_spawned() {
    fn sendable<T: Send>(_: impl Fn(&'static Registry) -> T) {}
    let kind = &doubles::KINDS[0];
    static OPTIONS: std::sync::LazyLock<WriteOptions> = std::sync::LazyLock::new(WriteOptions::default);
    static DELETE: std::sync::LazyLock<DeleteOptions> = std::sync::LazyLock::new(DeleteOptions::default);
    static LIST: std::sync::LazyLock<ListOptions> = std::sync::LazyLock::new(ListOptions::default);
    sendable(move |registry| registry.create(kind, "", body(""), &OPTIONS));
    sendable(move |registry| registry.update(kind, "", "", Part::Main, body(""), &OPTIONS));
    sendable(move |registry| registry.patch(kind, "", "", Part::Main, Patch::Merge(Bytes::new()), &OPTIONS));
    sendable(move |registry| registry.delete(kind, "", "", &DELETE, &OPTIONS));
    sendable(move |registry| registry.delete_collection(kind, "", &LIST, &DELETE, &OPTIONS));
    sendable(move |registry| registry.finalize_namespace("", body(""), &OPTIONS));
    sendable(move |registry| registry.edit(kind, "", "", Part::Main, &|_| Ok(()), &OPTIONS));
}
