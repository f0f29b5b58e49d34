//! Kernel parameters that forwarding needs, and what they were before.
//!
//! The former value of each is on disk before it is changed, so that [`restore`] can put it back, however the node ended.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::NetError;
use super::ipam::write_durably;

/// What is set: its name below `net/ipv4`, its value, and whether it is the machine's (rather than that of a link of ours, which it goes with).
/// Redirects are off because pods of one bridge talk by way of it on purpose (see `link`).
const WANTED: &[(&str, &str, bool)] =
    &[("ip_forward", "1", true), ("conf/all/send_redirects", "0", true), ("conf/orch0/send_redirects", "0", false)];

type Record = BTreeMap<String, String>;

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NetError + use<> {
    let path = path.to_owned();
    move |source| NetError::Io { doing, path, source }
}

fn parameter(name: &str) -> PathBuf {
    Path::new("/proc/sys/net/ipv4").join(name)
}

fn record_in(directory: &Path) -> PathBuf {
    directory.join("sysctls.json")
}

fn read(path: &Path) -> Result<Record, NetError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from).map_err(failed("reading the record in", path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Record::new()),
        Err(error) => Err(failed("reading", path)(error)),
    }
}

/// Sets what is wanted, in the calling thread's network namespace. Former values are kept in this directory.
pub(crate) fn apply(directory: &Path) -> Result<(), NetError> {
    let path = record_in(directory);
    let mut record = read(&path)?;
    for (name, value, machine) in WANTED {
        let parameter = parameter(name);
        let present = fs::read_to_string(&parameter).map_err(failed("reading", &parameter))?;
        // Where it is right already it may well be read-only.
        if present.trim() == *value {
            continue;
        }
        if *machine && !record.contains_key(*name) {
            record.insert((*name).into(), present.trim().into());
            let bytes = serde_json::to_vec(&record).expect("a map of strings");
            write_durably(&path, &bytes).map_err(failed("writing", &path))?;
        }
        fs::write(&parameter, value).map_err(failed("writing", &parameter))?;
    }
    Ok(())
}

/// Puts back what [`apply`] changed; returns what that was, as `NAME = VALUE`.
pub(crate) fn restore(directory: &Path) -> Result<Vec<String>, NetError> {
    let path = record_in(directory);
    let mut done = Vec::new();
    for (name, value) in read(&path)? {
        let parameter = parameter(&name);
        fs::write(&parameter, &value).map_err(failed("writing", &parameter))?;
        done.push(format!("net.ipv4.{} = {value}", name.replace('/', ".")));
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing", &path)(error)),
        _ => Ok(done),
    }
}
