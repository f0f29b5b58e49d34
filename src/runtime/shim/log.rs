//! Container logs in the CRI format, rotated by size: `2026-11-21T05:25:33.123456789Z stdout F line`.
//!
//! `P` marks a part of a line: one cut at 16 KiB, or one that ended without a newline, as containerd writes them.
//! A log that can't be written (a full disk) loses those lines, never blocks the container.
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// Longest text in one record.
pub const MAX_LINE: usize = 16 * 1024;

/// Cuts a byte stream into records.
#[derive(Default)]
pub struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Adds bytes; appends the records that are complete to `out`.
    pub fn push(&mut self, stream: &str, data: &[u8], now: Timestamp, out: &mut Vec<u8>) {
        let mut data = data;
        while !data.is_empty() {
            let room = MAX_LINE - self.rest.len();
            let end = data.iter().take(room + 1).position(|byte| *byte == b'\n');
            match end {
                Some(end) => {
                    record(out, stream, now, "F", &self.rest, &data[..end]);
                    self.rest.clear();
                    data = &data[end + 1..];
                }
                None if data.len() > room => {
                    record(out, stream, now, "P", &self.rest, &data[..room]);
                    self.rest.clear();
                    data = &data[room..];
                }
                None => {
                    self.rest.extend_from_slice(data);
                    return;
                }
            }
        }
    }

    /// The stream ended: what lacks its newline is a part.
    pub fn finish(&mut self, stream: &str, now: Timestamp, out: &mut Vec<u8>) {
        if !self.rest.is_empty() {
            record(out, stream, now, "P", &self.rest, &[]);
        }
        self.rest = Vec::new();
    }
}

fn record(out: &mut Vec<u8>, stream: &str, now: Timestamp, tag: &str, head: &[u8], tail: &[u8]) {
    // Writing to a Vec can't fail.
    let _ = write!(out, "{now:.9} {stream} {tag} ");
    out.extend_from_slice(head);
    out.extend_from_slice(tail);
    out.push(b'\n');
}

/// A log file and its predecessors.
pub struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    max_bytes: u64,
    files: u32,
    /// The last write stopped inside a record.
    torn: bool,
    /// Name of the last rotation and how often it was used: several in one second are told apart, and sort.
    last: (String, u32),
}

impl Log {
    /// Opens (or makes) the log; it continues what is there.
    pub fn open(path: &Path, max_bytes: u64, files: u32) -> io::Result<Log> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut log = Log { path: path.to_path_buf(), file: None, size: 0, max_bytes, files, torn: false, last: Default::default() };
        log.reopen()?;
        Ok(log)
    }

    fn reopen(&mut self) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Writes whole records. Errors are swallowed by design (see the module): the container goes on.
    pub fn write(&mut self, records: &[u8], now: Timestamp) {
        if records.is_empty() {
            return;
        }
        if self.max_bytes > 0 && self.size > 0 && self.size + records.len() as u64 > self.max_bytes {
            self.rotate(now);
        }
        if self.file.is_none() && self.reopen().is_err() {
            return;
        }
        let Some(file) = &mut self.file else { return };
        if self.torn && file.write_all(b"\n").is_err() {
            return;
        }
        self.torn = false;
        let mut left = records;
        while !left.is_empty() {
            match file.write(left) {
                Ok(n) if n > 0 => {
                    self.size += n as u64;
                    left = &left[n..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => {
                    self.torn = left.len() < records.len();
                    return;
                }
            }
        }
    }

    fn rotate(&mut self, now: Timestamp) {
        let name = format!("{}.{}", self.path.display(), now.strftime("%Y%m%d-%H%M%S"));
        self.last = if self.last.0 == name { (name, self.last.1 + 1) } else { (name, 0) };
        let target = loop {
            let target = if self.last.1 == 0 { self.last.0.clone() } else { format!("{}.{:06}", self.last.0, self.last.1) };
            if !Path::new(&target).exists() {
                break target;
            }
            self.last.1 += 1;
        };
        // If it can't be renamed it just grows on.
        if fs::rename(&self.path, target).is_ok() {
            self.file = None;
            self.size = 0;
            self.prune();
        }
    }

    /// Removes the oldest beyond the number to keep; their names sort by time.
    fn prune(&self) {
        let (Some(dir), Some(name)) = (self.path.parent(), self.path.file_name()) else { return };
        let prefix = format!("{}.", name.to_string_lossy());
        let Ok(entries) = fs::read_dir(dir) else { return };
        let mut old: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(|path| has_prefix(path, &prefix)).collect();
        old.sort();
        let keep = self.files.saturating_sub(1) as usize;
        for path in &old[..old.len().saturating_sub(keep)] {
            let _ = fs::remove_file(path);
        }
    }
}

fn has_prefix(path: &Path, prefix: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T05:25:33.123456789Z".parse().unwrap()
    }

    fn check(chunks: &[&[u8]], expect: &[(&str, usize)]) {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        chunks.iter().for_each(|chunk| lines.push("stdout", chunk, now(), &mut out));
        lines.finish("stdout", now(), &mut out);
        let text = String::from_utf8(out).unwrap();
        let got: Vec<_> = text.lines().map(|line| line.strip_prefix("2026-11-21T05:25:33.123456789Z stdout ").unwrap()).collect();
        assert_eq!(got.iter().map(|line| (&line[..1], line.len() - 2)).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn records_are_lines_or_parts() {
        check(&[b"a\nbc\n"], &[("F", 1), ("F", 2)]);
        check(&[b"a", b"b\n", b"\n"], &[("F", 2), ("F", 0)]);
        check(&[b"no newline"], &[("P", 10)]);
        check(&[&[b'x'; MAX_LINE], b"\n"], &[("F", MAX_LINE)]);
        check(&[&[b'x'; MAX_LINE + 1], b"\n"], &[("P", MAX_LINE), ("F", 1)]);
        check(&[&[b'x'; 3 * MAX_LINE]], &[("P", MAX_LINE), ("P", MAX_LINE), ("P", MAX_LINE)]);
    }

    #[test]
    fn rotation_keeps_so_many_files_and_loses_nothing_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(&dir.path().join("0.log"), 10, 3).unwrap();
        for n in 0..6 {
            log.write(format!("record {n}\n").as_bytes(), now());
        }
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        let texts: Vec<_> = names.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        assert_eq!(texts, ["record 5\n", "record 3\n", "record 4\n"], "{names:?}");
    }
}
