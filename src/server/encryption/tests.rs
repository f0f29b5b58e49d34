//! What is at rest, looked at as a thief would: as bytes of files.

use std::os::unix::fs::PermissionsExt;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;
use crate::server::store::{BackendError, Change, Draft, Expect, Limits, Store, backup};

const VALUE: &str = "correct-horse-battery-staple";

struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Home {
        Home { dir: tempfile::tempdir().unwrap() }
    }

    fn store_dir(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn try_open(&self, given: Option<&Path>) -> Result<(Keeper, Store, usize), BackendError> {
        let encryption = Arc::new(Encryption::open(self.dir.path(), given).unwrap());
        let (store, stale) = Store::open_sealed(&self.store_dir(), Limits::default(), &[], encryption.clone())?;
        encryption.save().unwrap();
        Ok((Keeper::new(encryption, store.clone(), self.store_dir()), store, stale))
    }

    fn open(&self) -> (Keeper, Store, usize) {
        self.try_open(None).unwrap()
    }

    /// Files of the data directory that hold the value, plain or in base64.
    fn leaks(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                    continue;
                }
                let bytes = fs::read(&path).unwrap();
                // Backups are compressed, which would hide a leak.
                let body = bytes.strip_prefix(b"orch-backup-1\n").map(|packed| zstd::decode_all(packed).unwrap());
                let bytes = body.unwrap_or(bytes);
                let base64 = STANDARD.encode(VALUE);
                if [VALUE, &base64].iter().any(|text| bytes.windows(text.len()).any(|part| part == text.as_bytes())) {
                    found.push(path);
                }
            }
        }
        let mut found = Vec::new();
        walk(self.dir.path(), &mut found);
        found
    }
}

fn secret(name: &str) -> (Key, Draft) {
    let metadata = ObjectMeta { name: Some(name.into()), namespace: Some("default".into()), ..ObjectMeta::default() };
    let data = [("password".to_string(), ByteString(VALUE.into()))].into();
    (Key::of::<Secret>("default", name), Draft::of(Arc::new(Secret { metadata, data: Some(data), ..Secret::default() })))
}

async fn put(store: &Store, name: &str) {
    let (key, draft) = secret(name);
    let expect = store.snapshot().get(&key).map_or(Expect::Absent, |entry| Expect::Rev(entry.rev));
    store.commit(key, expect, Change::Put(draft)).await.unwrap();
}

fn value(store: &Store, name: &str) -> String {
    let entry = store.snapshot().get(&Key::of::<Secret>("default", name)).cloned().unwrap();
    let secret = entry.typed::<Secret>().unwrap();
    String::from_utf8(secret.data.as_ref().unwrap()["password"].0.clone()).unwrap()
}

#[tokio::test]
async fn a_secret_is_found_nowhere_at_rest_and_survives_rotations() {
    let home = Home::new();
    let (keeper, store, stale) = home.open();
    assert_eq!(stale, 0);
    put(&store, "a").await;
    put(&store, "a").await;
    backup::write(&home.store_dir(), &store.snapshot(), store.codec(), backup::KEEP).unwrap();
    assert_eq!(home.leaks(), Vec::<PathBuf>::new());
    let file = Encryption::managed_path(home.dir.path());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let first = fs::read_to_string(&file).unwrap();

    let name = keeper.rotate().await.unwrap();
    assert_eq!((&keeper.status()["stage"], &keeper.status()["entries"][0]["keys"][0]["name"]), (&"rotate".into(), &name.as_str().into()));
    put(&store, "b").await;
    store.close().await;
    let (keeper, store, stale) = home.open();
    assert_eq!((value(&store, "a").as_str(), value(&store, "b").as_str(), stale), (VALUE, VALUE, 2), "two keys are in use");
    assert_eq!(keeper.reencrypt().await.unwrap(), 2, "the history is sealed anew too");
    assert_eq!(keeper.status()["entries"][0]["keys"].as_array().unwrap().len(), 2, "one key and identity");
    keeper.rotate_keys().await.unwrap();
    store.close().await;

    assert_eq!(home.leaks(), Vec::<PathBuf>::new());
    let (_, store, stale) = home.open();
    assert_eq!((value(&store, "a").as_str(), stale), (VALUE, 0));
    store.close().await;
    // What the first key opens is gone.
    fs::write(&file, first).unwrap();
    let error = home.try_open(None).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("secrets/default/a") && error.contains("does not list for secrets"), "{error}");
}

#[tokio::test]
async fn a_lost_or_wrong_key_changes_nothing() {
    let home = Home::new();
    let (_, store, _) = home.open();
    put(&store, "a").await;
    store.close().await;
    let file = Encryption::managed_path(home.dir.path());
    let good = fs::read_to_string(&file).unwrap();
    let other = STANDARD.encode([7; 32]);
    let key = serde_json::from_str::<EncryptionConfiguration>(&good).unwrap().resources[0].providers[0].aesgcm.clone().unwrap();
    let wrong = good.replace(&key.keys[0].secret, &other);

    fs::remove_file(&file).unwrap();
    let error = home.try_open(None).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("is missing; put that file back") && error.contains(&key.keys[0].name), "{error}");
    assert!(!file.exists(), "no new key takes the place of the lost one");
    fs::write(&file, wrong).unwrap();
    let error = home.try_open(None).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("the key of that name") && !error.contains(&other), "{error}");
    fs::write(&file, good).unwrap();
    assert_eq!(value(&home.open().1, "a"), VALUE);
}

#[tokio::test]
async fn what_was_plain_is_sealed_and_a_restored_backup_opens() {
    let home = Home::new();
    let plain = Store::open(&home.store_dir(), Limits { events: 1, bytes: 1 << 20 }, &[]).unwrap();
    put(&plain, "a").await;
    plain.close().await;
    assert!(!home.leaks().is_empty(), "the search finds what is there");
    let (keeper, store, stale) = home.open();
    assert_eq!((stale, value(&store, "a").as_str()), (1, VALUE));
    assert_eq!(keeper.reencrypt().await.unwrap(), 1);
    assert_eq!(keeper.reencrypt().await.unwrap(), 0);
    store.close().await;
    // The database is gone; what is left is the backup.
    let db = home.store_dir().join("db");
    fs::remove_dir_all(&db).unwrap();
    fs::create_dir_all(&db).unwrap();
    fs::write(db.join("conf"), "no database").unwrap();
    let (_, store, _) = home.open();
    assert_eq!(value(&store, "a"), VALUE);
}

#[tokio::test]
async fn a_given_configuration_is_the_users() {
    let home = Home::new();
    let given = home.dir.path().join("given.yaml");
    let config = |providers: &str| {
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources: [{{resources: [secrets], providers: [{providers}]}}]\n"
        )
    };
    let (a, b) = (STANDARD.encode([1; 32]), STANDARD.encode([2; 24]));
    fs::write(&given, config(&format!("secretbox: {{keys: [{{name: one, secret: {a}}}]}}"))).unwrap();
    let (keeper, store, _) = home.try_open(Some(&given)).unwrap();
    put(&store, "a").await;
    assert!(keeper.rotate().await.unwrap_err().to_string().contains("add a new first key there"));
    store.close().await;
    let two = format!("{{aescbc: {{keys: [{{name: two, secret: {b}}}]}}}}, {{secretbox: {{keys: [{{name: one, secret: {a}}}]}}}}");
    fs::write(&given, config(&two)).unwrap();
    let (keeper, store, stale) = home.try_open(Some(&given)).unwrap();
    assert_eq!((stale, keeper.reencrypt().await.unwrap()), (1, 1));
    assert_eq!(keeper.status()["entries"][0]["keys"][0], serde_json::json!({"active": true, "type": "AES-CBC", "name": "two"}));
    store.close().await;
    let text = config("identity: {}");
    fs::write(&given, text).unwrap();
    let error = home.try_open(Some(&given)).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("aescbc key \"two\""), "{error}");
    assert!(Encryption::open(home.dir.path(), Some(Path::new("/nonexistent"))).is_err_and(|e| e.to_string().contains("/nonexistent")));
}
