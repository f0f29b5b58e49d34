//! How clients of ours come to know a set of objects and what becomes of it: `orch::client::changes`.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use futures::StreamExt;
use futures::future::join_all;
use http::Response;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::runtime::watcher;
use orch::client::{Change, changes};

use crate::CONFIGMAPS;
use crate::support::server;

const WAIT: Duration = Duration::from_secs(60);

/// The whole set, as it is told first.
async fn first(client: kube::Client) -> Vec<ConfigMap> {
    let mut stream = pin!(changes(Api::<ConfigMap>::default_namespaced(client), watcher::Config::default()));
    match tokio::time::timeout(WAIT, stream.next()).await.expect("it is told in time") {
        Some(Change::Reset(all)) => all,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn many_begin_at_once_while_things_change() {
    // More clients than states that are kept for lists, more objects than a page of theirs holds.
    const CLIENTS: usize = 40;
    const OBJECTS: usize = 501;
    let api = server().await;
    let bodies: Vec<String> = (0..OBJECTS).map(|n| format!("metadata: {{name: a{n}}}")).collect();
    join_all(bodies.iter().map(|body| api.yes("POST", CONFIGMAPS, body))).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let client = api.client(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        None
    });
    let writes = async {
        for n in 0.. {
            api.yes("POST", CONFIGMAPS, &format!("metadata: {{name: b{n}}}")).await;
        }
    };
    let all = tokio::select! {
        all = join_all((0..CLIENTS).map(|_| first(client.clone()))) => all,
        () = writes => unreachable!("there is always another"),
    };
    assert!(all.iter().all(|all| all.len() >= OBJECTS));
    assert_eq!(asked.load(Ordering::Relaxed), CLIENTS, "each asked once, and none twice");
}

#[tokio::test]
async fn who_refuses_is_asked_for_a_list() {
    let api = server().await;
    for name in ["a", "b"] {
        api.yes("POST", CONFIGMAPS, &format!("metadata: {{name: {name}}}")).await;
    }
    for code in [400_u16, 422] {
        let client = api.client(move |uri| {
            let refused = uri.query().is_some_and(|query| query.contains("sendInitialEvents"));
            let status = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no",
                "reason": if code == 422 { "Invalid" } else { "BadRequest" }});
            refused.then(|| Response::builder().status(code).body(Body::from(status.to_string())).unwrap())
        });
        let mut stream = pin!(changes(Api::<ConfigMap>::default_namespaced(client), watcher::Config::default()));
        let mut next = async || tokio::time::timeout(WAIT, stream.next()).await.expect("in time").expect("it never ends");
        let told = next().await;
        assert!(matches!(&told, Change::Reset(all) if all.len() == 2), "{code}: {told:?}");
        let patch = [("content-type", "application/merge-patch+json")];
        let changed = api.ask("admin", "PATCH", &format!("{CONFIGMAPS}/a"), &patch, &format!(r#"{{"data":{{"n":"{code}"}}}}"#)).await;
        assert_eq!(changed.code, 200);
        let told = next().await;
        assert!(matches!(&told, Change::Set(map) if map.metadata.name.as_deref() == Some("a")), "{code}: {told:?}");
    }
}
