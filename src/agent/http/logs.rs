//! Reading container logs: CRI format (`TIME STREAM TAG TEXT`), rotated files, following.
//!
//! A log is `N.log` with older parts `N.log.*` beside it, whose names sort by time. A line may be cut into several records
//! (tag `P`), the last of which has tag `F`. Options as upstream's `PodLogOptions` (pkg/kubelet/kuberuntime/logs).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use inotify::{Inotify, WatchMask};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

/// Bytes collected before they are sent.
const CHUNK: usize = 16 << 10;
/// Longest record that is taken for one: the writer cuts at 16 KiB.
const MAX_RECORD: u64 = 1 << 20;

/// What to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Go on as the log grows.
    pub follow: bool,
    /// Begin each line with its time.
    pub timestamps: bool,
    /// Only the last so many lines.
    pub tail: Option<usize>,
    /// Only lines from then on.
    pub since: Option<Timestamp>,
    /// At most so many bytes.
    pub limit: Option<u64>,
    /// Only `stdout` or `stderr`.
    pub stream: Option<String>,
}

/// One record of a log.
struct Record<'a> {
    time: &'a str,
    stream: &'a str,
    partial: bool,
    text: &'a [u8],
}

fn parse(line: &[u8]) -> Option<Record<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let mut word = || std::str::from_utf8(parts.next()?).ok();
    let (time, stream, tag) = (word()?, word()?, word()?);
    let text = parts.next().unwrap_or_default();
    Some(Record { time, stream, partial: tag.split(':').next() == Some("P"), text })
}

/// Where reading has got to, and what may still be sent.
struct Reader {
    options: Options,
    left: u64,
    /// The line before ended with tag `P`: no time in front of what follows.
    inside: bool,
    out: BytesMut,
    sender: mpsc::Sender<io::Result<Bytes>>,
}

enum Flow {
    More,
    Done,
}

impl Reader {
    fn record(&mut self, line: &[u8]) -> Flow {
        let Some(record) = parse(line.strip_suffix(b"\n").unwrap_or(line)) else { return Flow::More };
        if self.options.stream.as_deref().is_some_and(|stream| stream != record.stream) {
            return Flow::More;
        }
        if let Some(since) = self.options.since
            && record.time.parse::<Timestamp>().is_ok_and(|time| time < since)
        {
            return Flow::More;
        }
        if self.options.timestamps && !self.inside {
            self.out.extend_from_slice(record.time.as_bytes());
            self.out.extend_from_slice(b" ");
        }
        self.inside = record.partial;
        self.out.extend_from_slice(record.text);
        if !record.partial {
            self.out.extend_from_slice(b"\n");
        }
        if self.out.len() >= CHUNK { self.flush() } else { Flow::More }
    }

    /// Sends what was collected; done when nobody listens or the limit is reached.
    fn flush(&mut self) -> Flow {
        let limit = self.left.min(self.out.len() as u64);
        let bytes = self.out.split_to(limit as usize).freeze();
        self.left -= limit;
        let gone = !bytes.is_empty() && self.sender.blocking_send(Ok(bytes)).is_err();
        if gone || self.left == 0 || self.sender.is_closed() { Flow::Done } else { Flow::More }
    }
}

/// Reads whole records from where the file stands. A record that is not whole yet stays for the next call.
fn read_records(file: &mut BufReader<File>, mut each: impl FnMut(&[u8]) -> Flow) -> io::Result<Flow> {
    let mut line = Vec::new();
    loop {
        let start = file.stream_position()?;
        line.clear();
        let n = io::Read::take(&mut *file, MAX_RECORD).read_until(b'\n', &mut line)?;
        if n == 0 {
            return Ok(Flow::More);
        }
        if line.last() != Some(&b'\n') && (n as u64) < MAX_RECORD {
            file.seek(SeekFrom::Start(start))?;
            return Ok(Flow::More);
        }
        if let Flow::Done = each(&line) {
            return Ok(Flow::Done);
        }
    }
}

/// The parts of a log, oldest first, the growing one last.
fn parts(path: &Path) -> io::Result<Vec<PathBuf>> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().strip_prefix(&name).is_some_and(|rest| rest.starts_with('.')) {
            parts.push(entry.path());
        }
    }
    parts.sort();
    parts.push(path.to_path_buf());
    Ok(parts)
}

/// The last `count` lines of a log, as records.
fn tail(path: &Path, options: &Options, count: usize) -> io::Result<(VecDeque<Vec<u8>>, BufReader<File>)> {
    let mut records: VecDeque<Vec<u8>> = VecDeque::new();
    let mut lines = 0;
    let mut last = None;
    for part in parts(path)? {
        let mut file = BufReader::new(File::open(part)?);
        read_records(&mut file, |line| {
            let Some(record) = parse(line) else { return Flow::More };
            if options.stream.as_deref().is_some_and(|stream| stream != record.stream) {
                return Flow::More;
            }
            lines += usize::from(!record.partial);
            records.push_back(line.to_vec());
            // Drops the oldest whole line, which may be several records.
            while lines > count {
                let Some(first) = records.pop_front() else { break };
                lines -= usize::from(parse(&first).is_some_and(|record| !record.partial));
            }
            Flow::More
        })?;
        last = Some(file);
    }
    Ok((records, last.ok_or(io::ErrorKind::NotFound)?))
}

/// Sends a log to `sender`. With `follow`, until `running` turns false and everything was sent.
pub async fn send(path: PathBuf, options: Options, running: watch::Receiver<bool>, sender: mpsc::Sender<io::Result<Bytes>>) {
    let errors = sender.clone();
    let follow = options.follow;
    let changes = match follow.then(|| watch_folder(&path)).transpose() {
        Ok(changes) => changes,
        Err(error) => return drop(errors.send(Err(error)).await),
    };
    let left = options.limit.unwrap_or(u64::MAX);
    let reader = Reader { options, left, inside: false, out: BytesMut::new(), sender };
    let start = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || read_present(&path, reader)).await
    };
    let mut state = match start.expect("reading a log does not panic") {
        Ok(Some(state)) => state,
        Ok(None) => return,
        Err(error) => return drop(errors.send(Err(error)).await),
    };
    let Some(mut changes) = changes else { return };
    let mut running = running;
    loop {
        // Looked at before reading: what was written before the end is then read for sure.
        let ended = !*running.borrow_and_update();
        let path = path.clone();
        let step = tokio::task::spawn_blocking(move || read_more(&path, state)).await.expect("reading a log does not panic");
        state = match step {
            Ok(Some(state)) => state,
            Ok(None) => return,
            Err(error) => return drop(errors.send(Err(error)).await),
        };
        if ended {
            return;
        }
        tokio::select! {
            _ = changes.next() => {}
            changed = running.changed() => if changed.is_err() { return },
            () = errors.closed() => return,
        }
    }
}

type State = (Reader, BufReader<File>);

/// Everything that is there now; `None` when done.
fn read_present(path: &Path, mut reader: Reader) -> io::Result<Option<State>> {
    let mut file = None;
    match reader.options.tail {
        Some(count) => {
            let (records, open) = tail(path, &reader.options, count)?;
            for record in records {
                if let Flow::Done = reader.record(&record) {
                    return Ok(None);
                }
            }
            file = Some(open);
        }
        None => {
            for part in parts(path)? {
                let mut open = BufReader::new(File::open(part)?);
                if let Flow::Done = read_records(&mut open, |line| reader.record(line))? {
                    return Ok(None);
                }
                file = Some(open);
            }
        }
    }
    let file = file.ok_or(io::ErrorKind::NotFound)?;
    Ok(match reader.flush() {
        Flow::Done => None,
        Flow::More => Some((reader, file)),
    })
}

/// What was added since, over a rotation too; `None` when done.
fn read_more(path: &Path, (mut reader, mut file): State) -> io::Result<Option<State>> {
    use std::os::unix::fs::MetadataExt;
    loop {
        if let Flow::Done = read_records(&mut file, |line| reader.record(line))? {
            return Ok(None);
        }
        // Rotated when another file stands at the path: the old one was read to its end just now.
        let now = match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            now => now?,
        };
        if now.ino() == file.get_ref().metadata()?.ino() {
            break;
        }
        file = BufReader::new(File::open(path)?);
    }
    Ok(match reader.flush() {
        Flow::Done => None,
        Flow::More => Some((reader, file)),
    })
}

fn watch_folder(path: &Path) -> io::Result<inotify::EventStream<[u8; 1024]>> {
    let inotify = Inotify::init()?;
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    inotify.watches().add(folder, WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::MOVED_FROM)?;
    inotify.into_event_stream([0; 1024])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const OLD: &str = "2026-01-01T00:00:00.000000001Z stdout F one\n2026-01-01T00:00:01Z stderr F two\n";
    const NEW: &str = "2026-01-01T00:00:02Z stdout P thr\n2026-01-01T00:00:02.5Z stdout F ee\n2026-01-01T00:00:03Z stdout F four\n";

    fn log() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("0.log");
        std::fs::write(dir.path().join("0.log.20260101-000001"), OLD).expect("writes");
        std::fs::write(&path, NEW).expect("writes");
        (dir, path)
    }

    async fn read(options: Options) -> String {
        let (_dir, path) = log();
        let (sender, mut receiver) = mpsc::channel(4);
        let (_running, running) = watch::channel(false);
        tokio::spawn(send(path, options, running, sender));
        let mut text = Vec::new();
        while let Some(bytes) = receiver.recv().await {
            text.extend_from_slice(&bytes.expect("reads"));
        }
        String::from_utf8(text).expect("is text")
    }

    #[tokio::test]
    async fn options_select() {
        let none = Options::default();
        let since = Some("2026-01-01T00:00:02Z".parse().expect("is a time"));
        let cases = [
            (none.clone(), "one\ntwo\nthree\nfour\n"),
            (Options { tail: Some(2), ..none.clone() }, "three\nfour\n"),
            (Options { tail: Some(3), stream: Some("stdout".into()), ..none.clone() }, "one\nthree\nfour\n"),
            (Options { tail: Some(0), ..none.clone() }, ""),
            (Options { since, ..none.clone() }, "three\nfour\n"),
            (Options { limit: Some(6), ..none.clone() }, "one\ntw"),
            (Options { stream: Some("stderr".into()), timestamps: true, ..none.clone() }, "2026-01-01T00:00:01Z two\n"),
            (Options { tail: Some(2), timestamps: true, ..none }, "2026-01-01T00:00:02Z three\n2026-01-01T00:00:03Z four\n"),
        ];
        for (options, expected) in cases {
            assert_eq!(read(options.clone()).await, expected, "{options:?}");
        }
    }

    #[tokio::test]
    async fn following_survives_rotation_and_ends_with_the_container() {
        let (dir, path) = log();
        let (sender, mut receiver) = mpsc::channel(4);
        let (container, running) = watch::channel(true);
        let options = Options { follow: true, tail: Some(1), ..Options::default() };
        let reading = tokio::spawn(send(path.clone(), options, running, sender));
        let mut next = async || String::from_utf8(receiver.recv().await.expect("more").expect("reads").to_vec()).expect("is text");
        assert_eq!(next().await, "four\n");
        let mut file = File::options().append(true).open(&path).expect("opens");
        writeln!(file, "2026-01-01T00:00:04Z stdout F five").expect("writes");
        assert_eq!(next().await, "five\n");
        std::fs::rename(&path, dir.path().join("0.log.20260101-000005")).expect("renames");
        std::fs::write(&path, "2026-01-01T00:00:05Z stdout F six\n").expect("writes");
        assert_eq!(next().await, "six\n");
        writeln!(File::options().append(true).open(&path).expect("opens"), "2026-01-01T00:00:06Z stdout F seven").expect("writes");
        container.send(false).expect("is heard");
        assert_eq!(next().await, "seven\n");
        reading.await.expect("ran");
    }
}
