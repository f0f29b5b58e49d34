//! Fairness as a whole, with tasks that wait and clients that go.

use super::*;
use crate::server::registry::User;

fn digest(user: &User) -> Digest<'_> {
    Digest {
        user,
        verb: "create",
        is_resource: true,
        group: "",
        resource: "configmaps",
        subresource: "",
        namespace: "ns",
        name: "",
        path: "",
    }
}

fn user(name: &str, group: &str) -> User {
    User { name: name.into(), groups: vec![group.into()], ..User::default() }
}

async fn admit(fairness: &Arc<Fairness>, user: &User) -> Result<Seat, Box<Refused>> {
    fairness.admit(&digest(user), Cost::default(), Size::default).await
}

/// A server with so many seats and the shipped objects.
fn shipped(seats: u32, wait: Duration) -> Arc<Fairness> {
    let fairness = Arc::new(Fairness::new(Limits { seats, wait }));
    let shipped = crate::api::fairness::shipped();
    let schemas: Vec<_> = shipped.schemas.iter().cloned().map(Arc::new).collect();
    let levels: Vec<_> = shipped.levels.iter().cloned().map(Arc::new).collect();
    for (level, limit) in fairness.adopt(&schemas, &levels) {
        fairness.set_limit(&level, limit);
    }
    fairness
}

#[tokio::test]
async fn requests_go_where_upstream_sends_them() {
    let fairness = shipped(600, Duration::from_secs(1));
    for (name, group, want) in [
        ("admin", "system:masters", "exempt"),
        ("system:node:n", "system:nodes", "system-nodes"),
        ("system:kube-scheduler", "system:authenticated", "kube-scheduler"),
        ("system:serviceaccount:kube-system:x", "system:serviceaccounts", "kube-system-service-accounts"),
        ("system:serviceaccount:ns:x", "system:serviceaccounts", "service-accounts"),
        ("ann", "system:authenticated", "global-default"),
    ] {
        let user = user(name, group);
        assert_eq!(fairness.classify(&digest(&user)).0.matcher.name, want, "{name}");
    }
    let ann = user("ann", "system:authenticated");
    let probe = Digest { verb: "get", is_resource: false, path: "/readyz", ..digest(&ann) };
    assert_eq!(fairness.classify(&probe).0.matcher.name, "probes");
    let bare = Arc::new(Fairness::new(Limits::default()));
    assert_eq!(bare.classify(&digest(&ann)).0.matcher.name, "catch-all");
    assert_eq!(admit(&bare, &ann).await.ok().map(|seat| seat.level().to_owned()).as_deref(), Some("catch-all"));
}

#[tokio::test(start_paused = true)]
async fn seats_are_bounded_waited_for_and_given_back() {
    // Four of them are global-default's: 40 * 20 / 245, rounded up.
    let fairness = shipped(40, Duration::from_secs(15));
    let ann = user("ann", "system:authenticated");
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(admit(&fairness, &ann).await.ok().expect("there is a seat"));
    }
    let waiting = tokio::spawn({
        let (fairness, ann) = (fairness.clone(), ann.clone());
        async move { admit(&fairness, &ann).await.map(|_| ()).map_err(|refused| refused.status.code) }
    });
    tokio::task::yield_now().await;
    assert_eq!(fairness.flows().iter().map(|(_, _, flow)| flow.waiting.get()).sum::<i64>(), 1);
    held.pop();
    assert_eq!(waiting.await.unwrap(), Ok(()));

    // All seats are taken again: nobody gives one back, so the wait is over after its time.
    held.push(admit(&fairness, &ann).await.ok().expect("it came back"));
    let refused = admit(&fairness, &ann).await.err().expect("nobody left");
    assert_eq!((refused.status.code, &*refused.status.reason), (429, "TooManyRequests"));
    assert_eq!(refused.status.details.as_ref().and_then(|d| d.retry_after_seconds), Some(1));

    // A client that goes while it waits leaves no trace.
    let gone = tokio::spawn({
        let (fairness, ann) = (fairness.clone(), ann.clone());
        async move { admit(&fairness, &ann).await.map(|_| ()).map_err(|refused| refused.status.code) }
    });
    tokio::task::yield_now().await;
    gone.abort();
    assert!(gone.await.is_err());
    assert_eq!(fairness.flows().iter().map(|(_, _, flow)| flow.waiting.get()).sum::<i64>(), 0);
    drop(held);
    assert!(fairness.compiled.load().levels.values().all(|level| level.set.lock().load() == (0, 0, 0, 0)));
    let mut text = Text::default();
    fairness.write_metrics(&mut text);
    let text = text.into_string();
    for line in [
        "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"global-default\",priority_level=\"global-default\",reason=\"time-out\"} 1",
        "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"global-default\",priority_level=\"global-default\",reason=\"cancelled\"} 1",
        "apiserver_flowcontrol_dispatched_requests_total{flow_schema=\"global-default\",priority_level=\"global-default\"} 6",
        "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"global-default\"} 4",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn idle_seats_are_lent_and_exempt_ones_never_wait() {
    let fairness = shipped(40, Duration::from_secs(15));
    let (ann, admin) = (user("ann", "system:authenticated"), user("admin", "system:masters"));
    let mut held: Vec<Seat> = Vec::new();
    for _ in 0..200 {
        held.push(admit(&fairness, &admin).await.ok().expect("it is exempt"));
    }
    held.clear();
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let (fairness, ann) = (fairness.clone(), ann.clone());
            tokio::spawn(async move { admit(&fairness, &ann).await.ok() })
        })
        .collect();
    tokio::task::yield_now().await;
    let limit = |fairness: &Fairness| fairness.level_numbers().iter().find(|(name, _)| name == "global-default").unwrap().1.limit;
    assert_eq!(limit(&fairness), 4);
    // The real clock moved a little, so there is a period to look at. The first one saw 200 exempt seats; the next has room to lend.
    fairness.adjust();
    fairness.adjust();
    assert!(limit(&fairness) > 8, "{}", limit(&fairness));
    drop(waiting);
    let text = fairness.dump("dump_priority_levels").unwrap();
    assert!(text.contains("\nglobal-default, "), "{text}");
    assert!(fairness.dump("dump_queues").is_some() && fairness.dump("other").is_none());
}

#[test]
fn retry_after_grows_and_shrinks() {
    let retry = RetryAfter::default();
    assert_eq!((0..100).map(|_| retry.dropped(10)).max(), Some(1));
    assert_eq!(retry.dropped(11), 2);
    assert_eq!((0..100).map(|_| retry.dropped(12)).max(), Some(2), "raised no sooner than after what it says");
    assert_eq!(retry.dropped(14), 4);
    // One a second is few: it falls until that is about as many as it says.
    assert_eq!((100..105).map(|second| retry.dropped(second)).collect::<Vec<_>>(), [3, 2, 2, 2, 2]);
}

/// Run with `cargo test --release fairness::tests::fast_path -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check"]
fn fast_path() {
    let fairness = shipped(600, Duration::from_secs(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (name, group) in [("admin", "system:masters"), ("system:node:n", "system:nodes"), ("ann", "system:authenticated")] {
        let user = user(name, group);
        let rounds = 1_000_000;
        let started = Instant::now();
        runtime.block_on(async {
            for _ in 0..rounds {
                drop(admit(&fairness, &user).await.ok().expect("it is alone"));
            }
        });
        println!("{name}: {} ns a request", started.elapsed().as_nanos() / rounds);
    }
}
