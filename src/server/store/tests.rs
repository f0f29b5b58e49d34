//! The store against real files: what is acknowledged is there, in order, whatever happens in between.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::*;
use crate::api::selector::LabelSelector;

fn map(name: &str, value: &str) -> ConfigMap {
    let metadata = ObjectMeta { name: Some(name.into()), namespace: Some("default".into()), ..ObjectMeta::default() };
    ConfigMap { metadata, data: Some([("k".to_string(), value.to_string())].into()), ..ConfigMap::default() }
}

fn key(name: &str) -> Key {
    Key::of::<ConfigMap>("default", name)
}

async fn put(store: &Store, name: &str, value: &str, expect: Expect) -> Result<Arc<Entry>, StoreError> {
    store.commit(key(name), expect, Change::Put(Draft::of(Arc::new(map(name, value))))).await
}

async fn remove(store: &Store, name: &str) -> Result<Arc<Entry>, StoreError> {
    let entry = store.snapshot().get(&key(name)).expect("is there").clone();
    let last = entry.typed::<ConfigMap>().expect("decodes");
    store.commit(key(name), Expect::Rev(entry.rev), Change::Delete(Draft::of(last))).await
}

fn open(dir: &Path) -> Store {
    Store::open(dir, Limits::default(), &[]).expect("opens")
}

/// Name to value and revision.
fn contents(store: &Store) -> BTreeMap<String, (String, u64)> {
    let value = |entry: &Arc<Entry>| {
        let map = entry.typed::<ConfigMap>().expect("decodes");
        assert_eq!(map.metadata.resource_version, Some(entry.rev.to_string()));
        assert_eq!(serde_json::from_slice::<ConfigMap>(&entry.json).expect("is JSON"), *map);
        (entry.key.name().to_string(), (map.data.as_ref().expect("has data")["k"].clone(), entry.rev.0))
    };
    store.snapshot().range(&Scope::of::<ConfigMap>()).map(value).collect()
}

async fn events(watch: &mut Watch, count: usize) -> Vec<(u64, String, bool, Option<u64>)> {
    let mut found = Vec::new();
    while found.len() < count {
        let next = tokio::time::timeout(std::time::Duration::from_secs(10), watch.next()).await.expect("an event within the deadline");
        let Delivery::Events(events) = next else { panic!("{next:?} after {found:?}") };
        found.extend(events.iter().map(|e| (e.rev.0, e.entry.key.name().into(), e.deleted, e.prev.as_ref().map(|p| p.rev.0))));
    }
    found
}

#[tokio::test]
async fn commits_are_conditional() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let first = put(&store, "a", "1", Expect::Absent).await.expect("free");
    assert_eq!(first.rev, Rev(1));
    let again = put(&store, "a", "2", Expect::Absent).await;
    assert!(matches!(again, Err(StoreError::Conflict(Some(found))) if found.rev == Rev(1)));
    assert!(matches!(put(&store, "b", "2", Expect::Rev(Rev(1))).await, Err(StoreError::Conflict(None))));
    assert_eq!(put(&store, "a", "2", Expect::Rev(Rev(1))).await.expect("holds").rev, Rev(2));
    assert!(matches!(put(&store, "a", "3", Expect::Rev(Rev(1))).await, Err(StoreError::Conflict(_))));
    assert_eq!(contents(&store), [("a".into(), ("2".into(), 2))].into());
}

#[tokio::test]
async fn concurrent_commits_to_one_key_have_one_winner() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let tries = (0..64).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { put(&store, "a", &n.to_string(), Expect::Absent).await.is_ok() })
    });
    let won = futures::future::join_all(tries).await.into_iter().filter(|won| *won.as_ref().expect("ran")).count();
    assert_eq!(won, 1);
    assert_eq!(store.snapshot().rev(), Rev(1));
}

#[tokio::test]
async fn watches_miss_nothing_and_survive_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let mut live = store.watch(Scope::of_namespace::<ConfigMap>("default"), Rev(0)).expect("starts");
    put(&store, "a", "1", Expect::Absent).await.expect("written");
    put(&store, "b", "1", Expect::Absent).await.expect("written");
    put(&store, "a", "2", Expect::Rev(Rev(1))).await.expect("written");
    remove(&store, "b").await.expect("removed");
    let all =
        vec![(1, "a".into(), false, None), (2, "b".into(), false, None), (3, "a".into(), false, Some(1)), (4, "b".into(), true, Some(2))];
    assert_eq!(events(&mut live, 4).await, all);
    assert_eq!(live.seen(), Rev(4));
    store.close().await;
    assert!(matches!(live.next().await, Delivery::Closed));
    assert!(matches!(put(&store, "c", "1", Expect::Absent).await, Err(StoreError::Closed)));

    let store = open(dir.path());
    assert_eq!(contents(&store), [("a".into(), ("2".into(), 3))].into());
    let mut resumed = store.watch(Scope::of::<ConfigMap>(), Rev(1)).expect("the history is on the disk");
    assert_eq!(events(&mut resumed, 3).await, all[1..]);
    assert_eq!(put(&store, "c", "1", Expect::Absent).await.expect("written").rev, Rev(5));
}

#[tokio::test]
async fn history_is_bounded_but_quiet_resources_stay_watchable() {
    let dir = tempfile::tempdir().expect("a directory");
    let limits = Limits { events: 10, bytes: 1 << 20 };
    let store = Store::open(dir.path(), limits, &[]).expect("opens");
    let mut slow = store.watch(Scope::of::<ConfigMap>(), Rev(0)).expect("starts");
    let secrets = store.watch(Scope::of::<Secret>(), Rev(0)).expect("starts");
    put(&store, "a", "0", Expect::Absent).await.expect("written");
    for rev in 1..50 {
        put(&store, "a", &rev.to_string(), Expect::Rev(Rev(rev))).await.expect("written");
    }
    assert!(matches!(slow.next().await, Delivery::Expired));
    assert!(store.watch(Scope::of::<ConfigMap>(), Rev(39)).is_err());
    assert!(store.watch(Scope::of::<ConfigMap>(), Rev(40)).is_ok());
    assert!(store.watch(Scope::of::<ConfigMap>(), Rev(51)).is_err(), "a revision that is not there yet");
    assert_eq!(secrets.seen(), Rev(50));
    store.close().await;

    // What fell out is gone from the disk too: the live object and the ten events are left, with what the oldest replaced.
    let (disk, held) = disk::Disk::open(dir.path()).expect("opens");
    assert_eq!((held.floor, held.records.len()), (Rev(40), 11));
    drop(disk);
    let store = Store::open(dir.path(), limits, &[]).expect("opens");
    assert_eq!(contents(&store), [("a".into(), ("49".into(), 50))].into());
    assert!(store.watch(Scope::of::<ConfigMap>(), Rev(40)).is_ok());
}

#[tokio::test]
async fn large_objects_are_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let large = "x".repeat(3 << 20);
    put(&store, "a", &large, Expect::Absent).await.expect("written");
    store.close().await;
    assert_eq!(contents(&open(dir.path()))["a"], (large, 1));
}

/// Three objects, then revision `bad` spoilt on the disk: what is left?
async fn spoilt(bad: u64, remove: bool) -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    for name in ["a", "b", "c"] {
        put(&store, name, "1", Expect::Absent).await.expect("written");
    }
    store.close().await;
    disk::Disk::spoil(dir.path(), Rev(bad), remove);
    (open(dir.path()), dir)
}

#[tokio::test]
async fn a_damaged_tail_is_cut_to_the_last_good_revision() {
    for (bad, remove, left) in [(3, false, 2), (2, false, 1), (2, true, 1), (1, true, 0)] {
        let (store, _dir) = spoilt(bad, remove).await;
        assert_eq!((store.snapshot().rev(), store.snapshot().len()), (Rev(left), left as usize), "revision {bad}, removed: {remove}");
        assert_eq!(put(&store, "d", "1", Expect::Absent).await.expect("written").rev, Rev(left + 1));
    }
}

#[tokio::test]
async fn a_damaged_head_is_replaced_by_the_newest_whole_backup() {
    let dir = tempfile::tempdir().expect("a directory");
    let limits = Limits { events: 1, bytes: 1 << 20 };
    let store = Store::open(dir.path(), limits, &[]).expect("opens");
    for name in ["a", "b", "c"] {
        put(&store, name, "1", Expect::Absent).await.expect("written");
    }
    remove(&store, "c").await.expect("removed");
    let backup = backup::write(dir.path(), &store.snapshot(), store.codec(), backup::KEEP).expect("written");
    store.close().await;
    // Revision 1 lies before the floor: no event can replace it.
    disk::Disk::spoil(dir.path(), Rev(1), false);
    let store = open(dir.path());
    assert_eq!((contents(&store).len(), store.snapshot().rev()), (2, Rev(4)));
    assert_eq!(put(&store, "d", "1", Expect::Absent).await.expect("written").rev, Rev(5));
    store.close().await;
    assert_eq!(contents(&open(dir.path())).len(), 3);

    let bytes = std::fs::read(&backup).expect("reads");
    std::fs::write(&backup, &bytes[..bytes.len() - 5]).expect("writes");
    assert!(backup::newest(dir.path()).expect("reads").is_none(), "a truncated backup is no backup");
}

/// A backend that fails on command, and forgets then whatever was not recovered.
struct Failing(Arc<parking_lot::Mutex<(bool, Vec<Rev>)>>);

impl Backend for Failing {
    fn append(&mut self, records: &[Record]) -> Result<(), BackendError> {
        let mut state = self.0.lock();
        state.1.extend(records.iter().map(|record| record.rev));
        match state.0 {
            false => Ok(()),
            true => Err(BackendError::Io { doing: "writing", path: "disk".into(), source: std::io::Error::other("broken") }),
        }
    }
    fn forget(&mut self, _: &[Rev], _: Rev) -> Result<(), BackendError> {
        Ok(())
    }
    fn rewrite(&mut self, _: Rewrite<'_>) -> Result<usize, BackendError> {
        Ok(0)
    }
    fn recover(&mut self, head: Rev) -> Result<(), BackendError> {
        self.0.lock().1.retain(|rev| *rev <= head);
        Ok(())
    }
}

#[tokio::test]
async fn a_failed_write_is_refused_and_leaves_nothing() {
    let state = Arc::new(parking_lot::Mutex::new((false, Vec::new())));
    let store = Store::with_backend(Box::new(Failing(state.clone())), Held::default(), Limits::default(), &[]).expect("opens");
    let mut watch = store.watch(Scope::all(), Rev(0)).expect("starts");
    put(&store, "a", "1", Expect::Absent).await.expect("written");
    state.lock().0 = true;
    assert!(matches!(put(&store, "b", "1", Expect::Absent).await, Err(StoreError::Backend(_))));
    assert_eq!(store.snapshot().rev(), Rev(1));
    state.lock().0 = false;
    assert_eq!(put(&store, "c", "1", Expect::Absent).await.expect("written").rev, Rev(2));
    assert_eq!(state.lock().1, [Rev(1), Rev(2)]);
    let seen = events(&mut watch, 2).await;
    assert_eq!(seen.iter().map(|event| event.1.as_str()).collect::<Vec<_>>(), ["a", "c"]);
}

#[tokio::test]
async fn a_snapshot_knows_who_names_whom_as_owner() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let write = async |name: &str, owners: &[&str], expect: Expect| {
        let mut object = map(name, "1");
        let owner = |uid: &&str| OwnerReference { uid: (*uid).into(), ..OwnerReference::default() };
        object.metadata.owner_references = (!owners.is_empty()).then(|| owners.iter().map(owner).collect());
        store.commit(key(name), expect, Change::Put(Draft::of(Arc::new(object)))).await.expect("written").rev
    };
    let check = |uid: &str, want: &[&str]| {
        let snapshot = store.snapshot();
        let found: Vec<_> = snapshot.dependents(uid).map(|entry| entry.key.name()).collect();
        assert_eq!(found, want, "{uid} at {}", snapshot.rev());
    };
    let first = write("b", &["u1"], Expect::Absent).await;
    write("a", &["u1", "u2", "u1"], Expect::Absent).await;
    check("u1", &["a", "b"]);
    check("u2", &["a"]);
    let before = store.snapshot();
    write("b", &["u2"], Expect::Rev(first)).await;
    check("u1", &["a"]);
    check("u2", &["a", "b"]);
    assert_eq!(before.dependents("u1").count(), 2, "a snapshot does not change");
    remove(&store, "a").await.expect("removed");
    check("u1", &[]);
    check("u2", &["b"]);
    store.close().await;
    let again = open(dir.path());
    assert_eq!(again.snapshot().dependents("u2").count(), 1, "what is read back is known as well");
}

#[tokio::test]
async fn labels_find_what_a_list_would() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    // In three namespaces, more than are counted of a common label.
    let key = |n: u32| Key::of::<ConfigMap>(&format!("ns{}", n % 3), &format!("m{n:03}"));
    for n in 0..300 {
        let labels = [("app", format!("a{}", n % 7)), ("one", format!("{n}")), ("all", "x".into())];
        let mut object = map(key(n).name(), "1");
        object.metadata.labels = Some(labels.into_iter().map(|(name, value)| (name.into(), value)).collect());
        store.commit(key(n), Expect::Absent, Change::Put(Draft::of(Arc::new(object)))).await.expect("written");
    }
    // One loses its labels, one is gone.
    let plain = map("m007", "2");
    let at = |n: u32| Expect::Rev(store.snapshot().get(&key(n)).expect("there").rev);
    store.commit(key(7), at(7), Change::Put(Draft::of(Arc::new(plain.clone())))).await.expect("written");
    store.commit(key(14), at(14), Change::Delete(Draft::of(Arc::new(plain)))).await.expect("removed");
    let check = |snapshot: &Snapshot| {
        let scopes =
            [Scope::of::<ConfigMap>(), Scope::of_namespace::<ConfigMap>("ns1"), Scope::of_namespace::<ConfigMap>("ns"), Scope::all()];
        for scope in scopes {
            for text in
                ["app=a0", "app=a0,all=x", "all=x,one=28", "one=28,app=a3", "one in (3,4)", "app=a1,one!=1", "app!=a1", "", "none=x"]
            {
                let selector = LabelSelector::parse(text).expect("a selector");
                let looked: Vec<_> = snapshot.range(&scope).filter(|entry| selector.matches(entry.meta().labels.as_ref())).collect();
                let found: Vec<_> = snapshot.selected(&scope, None, &selector).collect();
                assert_eq!(found, looked, "{text:?} in {scope:?}");
                if let Some(middle) = looked.get(looked.len() / 2) {
                    let rest: Vec<_> = snapshot.selected(&scope, Some(&middle.key), &selector).collect();
                    assert_eq!(rest, looked[looked.len() / 2 + 1..], "{text:?} in {scope:?} after {}", middle.key);
                }
            }
        }
    };
    check(&store.snapshot());
    // An index that this store was not told of.
    let unkept = Index { name: "unkept", ..Index::LABEL };
    for scope in [Scope::all(), Scope::of_namespace::<ConfigMap>("ns1")] {
        for label in [["app", "a0"], ["one", "28"], ["one", "14"]] {
            let snapshot = store.snapshot();
            let found = |index| snapshot.found(index, &label, &scope).map(|entry| entry.key.clone()).collect::<Vec<_>>();
            assert_eq!(found(&unkept), found(&Index::LABEL), "{label:?} in {scope:?}");
        }
    }
    let count = |text| store.snapshot().selected(&Scope::all(), None, &LabelSelector::parse(text).expect("a selector")).count();
    assert_eq!((count("app=a0"), count("one=28"), count("one=7"), count("one=14")), (41, 1, 0, 0));
    store.close().await;
    check(&open(dir.path()).snapshot());
}
