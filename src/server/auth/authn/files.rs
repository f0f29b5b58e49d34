//! Files with credentials, read at the start and again whenever they change.
//!
//! Invariant: what is in force is always a file that was whole and right; a change for the worse is logged and changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::StreamExt;
use inotify::{Inotify, WatchMask};
use tokio_util::sync::CancellationToken;

/// Largest file that is read.
const MAX_FILE: u64 = 8 << 20;
/// A file is read again when it has been quiet for this long: editors write more than once.
const QUIET: Duration = Duration::from_millis(100);
/// A folder that can't be watched is tried again after this.
const RETRY: Duration = Duration::from_secs(30);

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be read.
    #[error("reading it: {0}")]
    Io(#[from] std::io::Error),
    /// It is larger than 8 MiB.
    #[error("it is larger than {MAX_FILE} bytes")]
    TooLarge,
    /// A line is wrong; nothing of its contents is shown.
    #[error("line {line}: {why}")]
    Line {
        /// From 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
}

/// Reads a whole text file of bounded size.
pub fn read(path: &Path) -> Result<String, FileError> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE { Err(FileError::TooLarge) } else { Ok(text) }
}

/// A file's meaning, as of its last good state.
pub struct Watched<T> {
    path: PathBuf,
    parse: fn(&str) -> Result<T, FileError>,
    value: ArcSwap<T>,
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads it for the first time.
    pub fn open(path: &Path, parse: fn(&str) -> Result<T, FileError>) -> Result<Watched<T>, FileError> {
        let value = ArcSwap::from_pointee(parse(&read(path)?)?);
        Ok(Watched { path: path.into(), parse, value })
    }

    /// What it says.
    pub fn get(&self) -> arc_swap::Guard<Arc<T>> {
        self.value.load()
    }

    fn reload(&self) {
        match read(&self.path).and_then(|text| (self.parse)(&text)) {
            Ok(value) => {
                tracing::info!(path = %self.path.display(), "read again");
                self.value.store(Arc::new(value));
            }
            Err(error) => tracing::error!(path = %self.path.display(), %error, "the file went wrong; what it said before stays in force"),
        }
    }

    /// Reads it again at each change, until `stop`.
    pub async fn follow(&self, stop: &CancellationToken) {
        let work = async {
            loop {
                if let Err(error) = self.until_broken().await {
                    tracing::warn!(path = %self.path.display(), %error, "watching the file; trying again later");
                }
                tokio::time::sleep(RETRY).await;
                self.reload();
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    }

    /// Watches the folder, for files are replaced by renaming, and mounted ones by another link.
    async fn until_broken(&self) -> std::io::Result<()> {
        let folder = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let inotify = Inotify::init()?;
        let changes = WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO | WatchMask::CREATE | WatchMask::DELETE;
        inotify.watches().add(folder, changes)?;
        let mut events = inotify.into_event_stream([0u8; 4096])?;
        // It may have changed between the reading and the watching.
        self.reload();
        while let Some(event) = events.next().await {
            let event = event?;
            let name = event.name.as_deref();
            if name != self.path.file_name() && !name.is_some_and(|name| name.as_encoded_bytes().starts_with(b"..")) {
                continue;
            }
            while let Ok(Some(_)) = tokio::time::timeout(QUIET, events.next()).await {}
            self.reload();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Result<u32, FileError> {
        text.trim().parse().map_err(|_| FileError::Line { line: 1, why: "no number".into() })
    }

    #[tokio::test]
    async fn changes_are_seen_and_mistakes_are_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        std::fs::write(&path, "1").unwrap();
        let watched = Arc::new(Watched::open(&path, number).unwrap());
        let stop = CancellationToken::new();
        let (task, ending) = (watched.clone(), stop.clone());
        let task = tokio::spawn(async move { task.follow(&ending).await });
        let reads = async |want: u32| {
            for _ in 0..500 {
                if **watched.get() == want {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            panic!("{want} was not read in time");
        };
        std::fs::write(dir.path().join("new"), "2").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        reads(2).await;
        std::fs::write(&path, "wrong").unwrap();
        std::fs::write(dir.path().join("new"), "3").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        reads(3).await;
        watched.reload();
        std::fs::write(&path, "wrong").unwrap();
        watched.reload();
        assert_eq!(**watched.get(), 3);
        stop.cancel();
        task.await.unwrap();
        assert!(Watched::open(&dir.path().join("none"), number).is_err());
    }
}
