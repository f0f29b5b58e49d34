//! Durable commits per second from 1 and from 64 clients, against the disk's own fdatasync rate in the same run.
//!
//! usage: store DIR. Prints `NAME VALUE` lines; benches/run makes the table.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use orch::api::Key;
use orch::server::store::{Change, Draft, Expect, Limits, Store};

const SPAN: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).ok_or("usage: store DIR")?;
    let dir = Path::new(&dir);
    std::fs::create_dir_all(dir)?;
    println!("fdatasync_rate {:.0}", disk(&dir.join("plain"))?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for clients in [1, 64] {
        let store = Store::open(&dir.join(format!("store-{clients}")), Limits::default(), &[])?;
        let rate = runtime.block_on(commits(&store, clients));
        println!("commit_rate_{clients} {rate:.0}");
        runtime.block_on(store.close());
    }
    Ok(())
}

/// Writes of 4 KiB into a file that is there, each synced: no change of the file's size is waited for.
fn disk(path: &Path) -> std::io::Result<f64> {
    const BLOCKS: u32 = 1024;
    std::fs::write(path, vec![7; 4096 * BLOCKS as usize])?;
    let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
    file.sync_all()?;
    let (begun, mut count) = (Instant::now(), 0u32);
    while begun.elapsed() < SPAN {
        if count.is_multiple_of(BLOCKS) {
            file.seek(SeekFrom::Start(0))?;
        }
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

/// Each client creates an object of about 2 KiB, waits until it is durable, and creates the next.
async fn commits(store: &Store, clients: usize) -> f64 {
    let begun = Instant::now();
    let clients = (0..clients).map(|client| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut count = 0u32;
            while begun.elapsed() < SPAN {
                let name = format!("c{client}-{count}");
                let mut map = ConfigMap::default();
                map.metadata.name = Some(name.clone());
                map.metadata.namespace = Some("bench".into());
                map.data = Some([("payload".to_owned(), "x".repeat(1900))].into());
                let key = Key::new("", "configmaps", "bench", &name);
                store.commit(key, Expect::Absent, Change::Put(Draft::new(&map))).await.expect("a commit on a healthy disk succeeds");
                count += 1;
            }
            count
        })
    });
    let counts = futures::future::join_all(clients).await;
    let total: u32 = counts.into_iter().map(|count| count.expect("no client panics")).sum();
    f64::from(total) / begun.elapsed().as_secs_f64()
}
