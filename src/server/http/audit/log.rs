//! The audit log's file: one thread that writes what requests hand over, in batches, and rotates.
//!
//! Invariants: handing over never waits; what finds the queue full is dropped, counted, and said; bodies that wait are bounded in bytes too.
//! Rotation follows lumberjack, which upstream writes through: `audit.log` becomes `audit-TIME.log`, compressed if wanted.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::event::Event;
use crate::metrics::Counter;

/// Events that may wait (upstream's `--audit-log-batch-buffer-size`), and bytes of their bodies.
const QUEUE: usize = 10_000;
const QUEUE_BYTES: i64 = 64 << 20;
/// Events that are written at once (upstream's `--audit-log-batch-max-size`), and bytes.
const BATCH: usize = 400;
const BATCH_BYTES: usize = 4 << 20;

/// Where and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `-` is standard output.
    pub path: PathBuf,
    /// Size at which the file is rotated; 0: never.
    pub max_bytes: u64,
    /// Age at which rotated files are removed; `None`: never.
    pub max_age: Option<Duration>,
    /// Rotated files that are kept; 0: all.
    pub max_backups: usize,
    /// Whether rotated files are compressed.
    pub compress: bool,
}

/// Counters of the log.
#[derive(Debug, Default)]
pub struct Counts {
    /// Events handed over.
    pub events: Counter,
    /// Events dropped, or not written.
    pub errors: Counter,
    /// Bytes of bodies that wait.
    waiting: AtomicI64,
}

/// The sending end. The thread ends when the last one is gone.
#[derive(Debug)]
pub struct Log {
    sender: Option<SyncSender<Event>>,
    counts: Arc<Counts>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Log {
    /// Opens the file and starts the thread.
    pub fn open(config: LogConfig) -> io::Result<Log> {
        let out = Rotating::open(config)?;
        let (sender, events) = sync_channel(QUEUE);
        let counts = Arc::new(Counts::default());
        let writer = Writer { out, counts: counts.clone() };
        let thread = std::thread::Builder::new().name("audit-log".into()).spawn(move || writer.run(&events))?;
        Ok(Log { sender: Some(sender), counts, thread: Some(thread) })
    }

    /// Its counters.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Hands an event over.
    pub fn send(&self, event: Event) {
        self.counts.events.inc();
        let weight = event.weight() as i64;
        let waiting = self.counts.waiting.fetch_add(weight, Ordering::Relaxed);
        let sent = match &self.sender {
            Some(sender) if waiting + weight <= QUEUE_BYTES || waiting == 0 => sender.try_send(event),
            _ => Err(TrySendError::Full(event)),
        };
        if sent.is_err() {
            self.counts.waiting.fetch_sub(weight, Ordering::Relaxed);
            self.counts.errors.inc();
            // One line a power of two: neither silent nor a flood.
            let dropped = self.counts.errors.get();
            if dropped.is_power_of_two() {
                tracing::error!(dropped, "the audit log's queue is full: its disk is too slow for what its policy records");
            }
        }
    }
}

impl Drop for Log {
    /// What was handed over is written.
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the audit log's thread panicked");
        }
    }
}

struct Writer {
    out: Rotating,
    counts: Arc<Counts>,
}

impl Writer {
    fn run(mut self, events: &Receiver<Event>) {
        let mut buffer = Vec::new();
        while let Ok(first) = events.recv() {
            buffer.clear();
            let mut count = 0;
            let mut next = Some(first);
            while let Some(event) = next.take() {
                self.counts.waiting.fetch_sub(event.weight() as i64, Ordering::Relaxed);
                event.encode(&mut buffer);
                count += 1;
                if count < BATCH && buffer.len() < BATCH_BYTES {
                    next = events.try_recv().ok();
                }
            }
            if let Err(error) = self.out.write(&buffer) {
                self.counts.errors.add(count as u64);
                tracing::error!(%error, events = count, path = %self.out.config.path.display(), "writing the audit log");
            }
        }
    }
}

/// The file, or standard output.
struct Rotating {
    config: LogConfig,
    /// None: standard output.
    file: Option<File>,
    size: u64,
    /// When it was rotated last, as names say it.
    rotated: jiff::Timestamp,
}

impl Rotating {
    fn open(config: LogConfig) -> io::Result<Rotating> {
        if config.path.as_os_str() == "-" {
            return Ok(Rotating { config, file: None, size: 0, rotated: jiff::Timestamp::UNIX_EPOCH });
        }
        if let Some(folder) = config.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let file = append(&config.path)?;
        let size = file.metadata()?.len();
        Ok(Rotating { config, file: Some(file), size, rotated: jiff::Timestamp::UNIX_EPOCH })
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let max = self.config.max_bytes;
        if self.file.is_some() && max > 0 && self.size > 0 && self.size + lines.len() as u64 > max {
            self.rotate()?;
        }
        match &mut self.file {
            Some(file) => file.write_all(lines)?,
            None => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()?;
            }
        }
        self.size += lines.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.config.path;
        // Names are in order, also of what was rotated in the same millisecond or before the clock was set back.
        let next = self.rotated + jiff::SignedDuration::from_millis(1);
        self.rotated = jiff::Timestamp::now().max(next);
        let aside = name_at(path, self.rotated);
        fs::rename(path, &aside)?;
        self.file = Some(append(path)?);
        self.size = 0;
        // The log goes on whatever becomes of the old files.
        let tidied = if self.config.compress { compress(&aside) } else { Ok(()) };
        if let Err(error) = tidied.and_then(|()| self.prune()) {
            tracing::warn!(%error, "tidying rotated audit logs");
        }
        Ok(())
    }

    /// Removes rotated files that are too old or too many.
    fn prune(&self) -> io::Result<()> {
        let mut files = rotated(&self.config.path)?;
        files.sort();
        files.reverse();
        let kept = if self.config.max_backups == 0 { files.len() } else { self.config.max_backups };
        for (index, file) in files.iter().enumerate() {
            let age = SystemTime::now().duration_since(fs::metadata(file)?.modified()?).unwrap_or_default();
            if index >= kept || self.config.max_age.is_some_and(|max| age > max) {
                fs::remove_file(file)?;
            }
        }
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).mode(0o600).open(path)
}

/// Stem and extension (with its dot) of the log's name.
fn name_parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let extension = text(path.extension());
    (text(path.file_stem()), if extension.is_empty() { extension } else { format!(".{extension}") })
}

fn name_at(path: &Path, time: jiff::Timestamp) -> PathBuf {
    let (stem, extension) = name_parts(path);
    path.with_file_name(format!("{stem}-{}{extension}", time.strftime("%Y-%m-%dT%H-%M-%S.%3f")))
}

fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (stem, extension) = name_parts(path);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let time =
            name.strip_suffix(".gz").unwrap_or(&name).strip_suffix(&extension).and_then(|name| name.strip_prefix(&format!("{stem}-")));
        // `2006-01-02T15-04-05.000`, and nobody else's file.
        let ours = time.is_some_and(|time| time.len() == 23 && time.chars().all(|c| c.is_ascii_digit() || "-T.".contains(c)));
        if ours {
            found.push(path);
        }
    }
    Ok(found)
}

fn compress(path: &Path) -> io::Result<()> {
    let packed = path.with_file_name(format!("{}.gz", path.file_name().unwrap_or_default().to_string_lossy()));
    let file = File::options().create(true).write(true).truncate(true).mode(0o600).open(&packed)?;
    let mut encoder = GzEncoder::new(file, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn config(dir: &Path, compress: bool, max_backups: usize) -> LogConfig {
        LogConfig { path: dir.join("sub/audit.log"), max_bytes: 100, max_age: Some(Duration::from_secs(3600)), max_backups, compress }
    }

    #[test]
    fn files_are_rotated_kept_and_compressed() {
        for compress in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let config = config(dir.path(), compress, 2);
            let mut out = Rotating::open(config.clone()).unwrap();
            for line in 0..8 {
                out.write(format!("{line}{}\n", "x".repeat(58)).as_bytes()).unwrap();
            }
            let mut old = rotated(&config.path).unwrap();
            old.sort();
            assert_eq!(old.len(), 2, "{old:?}");
            let mut text = String::new();
            let file = File::open(&old[1]).unwrap();
            match compress {
                true => flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap(),
                false => io::BufReader::new(file).read_to_string(&mut text).unwrap(),
            };
            assert!(text.starts_with('6'), "{text}");
            assert!(fs::read_to_string(&config.path).unwrap().starts_with('7'));
            // Opened again, it goes on where it was.
            assert_eq!(Rotating::open(config).unwrap().size, 60);
        }
    }

    #[test]
    fn files_of_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "audit-old.log",
            "audit-2026-01-02T03-04-05.678.log",
            "audit-2026-01-02T03-04-05.678.log.gz",
            "other-2026-01-02T03-04-05.678.log",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(rotated(&dir.path().join("audit.log")).unwrap().len(), 2);
    }
}
