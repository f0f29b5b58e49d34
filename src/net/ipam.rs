//! Which pod has which address of the node's range, and the file that remembers it.
//!
//! A *lease* binds an id to an address until it is freed. The same id always gets the address it holds. A freed address rests as long as
//! possible before it is given out again (never used ones first, then the one freed longest ago), so that what still talks to the old pod is
//! unlikely to meet a new one. The file is replaced as a whole and synced before a lease takes effect: a lease that was acted upon is
//! never forgotten. An unreadable file is an error, never an empty book.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::NetError;

/// The leases of one range. Pure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leases {
    range: Ipv4Net,
    /// The next address that was never given out.
    next: Ipv4Addr,
    held: BTreeMap<String, Ipv4Addr>,
    /// Oldest first.
    freed: VecDeque<Ipv4Addr>,
}

impl Leases {
    /// Nothing given out. The network address, the first (the gateway) and the broadcast address never are.
    pub fn new(range: Ipv4Net) -> Leases {
        Leases { range, next: first(range), held: BTreeMap::new(), freed: VecDeque::new() }
    }

    /// The same leases in another range: what lies outside it is dropped.
    fn moved_to(mut self, range: Ipv4Net) -> Leases {
        if self.range == range {
            return self;
        }
        self.held.retain(|_, ip| *ip >= first(range) && *ip <= last(range));
        Leases { range, next: first(range), held: self.held, freed: VecDeque::new() }
    }

    /// The address of this id: the one it holds, or a free one.
    pub fn take(&mut self, id: &str) -> Option<Ipv4Addr> {
        if let Some(ip) = self.held.get(id) {
            return Some(*ip);
        }
        let ip = self.fresh().or_else(|| self.freed.pop_front())?;
        self.held.insert(id.to_owned(), ip);
        Some(ip)
    }

    fn fresh(&mut self) -> Option<Ipv4Addr> {
        let taken: BTreeSet<Ipv4Addr> = self.held.values().copied().collect();
        while self.next <= last(self.range) {
            let ip = self.next;
            self.next = Ipv4Addr::from_bits(ip.to_bits() + 1);
            if !taken.contains(&ip) {
                return Some(ip);
            }
        }
        None
    }

    /// Frees what the id holds; says whether it held anything.
    pub fn free(&mut self, id: &str) -> bool {
        let freed = self.held.remove(id);
        // Below `next` only: what was never reached by it is still fresh.
        self.freed.extend(freed.filter(|ip| *ip < self.next));
        freed.is_some()
    }

    /// The ids that hold an address.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.held.keys().map(String::as_str)
    }
}

fn first(range: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from_bits(range.network().to_bits().saturating_add(2))
}

fn last(range: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from_bits(range.broadcast().to_bits().saturating_sub(1))
}

/// The leases and their file.
#[derive(Debug)]
pub(crate) struct Ipam {
    path: PathBuf,
    leases: Leases,
}

impl Ipam {
    /// Reads the file, if there is one.
    pub fn open(directory: &Path, range: Ipv4Net) -> Result<Ipam, NetError> {
        let path = directory.join("leases.json");
        let failed = |doing, source| NetError::Io { doing, path: path.clone(), source };
        fs::create_dir_all(directory).map_err(|e| NetError::Io { doing: "creating", path: directory.to_owned(), source: e })?;
        let leases = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Leases>(&bytes).map_err(|e| failed("reading the leases in", e.into()))?.moved_to(range),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Leases::new(range),
            Err(e) => return Err(failed("reading", e)),
        };
        Ok(Ipam { path, leases })
    }

    /// The address of this id, on disk before it is returned.
    pub fn take(&mut self, id: &str) -> Result<Ipv4Addr, NetError> {
        let mut changed = self.leases.clone();
        let ip = changed.take(id).ok_or(NetError::Exhausted(self.leases.range))?;
        self.replace(changed)?;
        Ok(ip)
    }

    /// Frees what this id holds.
    pub fn free(&mut self, id: &str) -> Result<(), NetError> {
        let mut changed = self.leases.clone();
        changed.free(id);
        self.replace(changed)
    }

    /// Frees what belongs to none of these; returns the ids freed.
    pub fn retain(&mut self, keep: &BTreeSet<&str>) -> Result<(), NetError> {
        let mut changed = self.leases.clone();
        let stale: Vec<String> = changed.ids().filter(|id| !keep.contains(id)).map(str::to_owned).collect();
        for id in &stale {
            changed.free(id);
        }
        self.replace(changed)
    }

    fn replace(&mut self, leases: Leases) -> Result<(), NetError> {
        if leases == self.leases {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&leases).expect("leases are maps of strings to addresses");
        write_durably(&self.path, &bytes).map_err(|e| NetError::Io { doing: "writing", path: self.path.clone(), source: e })?;
        self.leases = leases;
        Ok(())
    }
}

/// Write beside, sync, rename over, sync the directory: after a crash either the old or the new content is there.
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(text: &str) -> Ipv4Net {
        text.parse().expect("a range")
    }

    #[test]
    fn oldest_freed_is_reused_last() {
        let mut leases = Leases::new(range("10.0.0.0/29")); // .2 to .6
        for id in ["a", "b", "c"] {
            leases.take(id);
        }
        leases.free("b");
        leases.free("a");
        let given: Vec<_> = ["d", "e", "f", "g"].iter().map(|id| leases.take(id).map(|ip| ip.octets()[3])).collect();
        assert_eq!(given, [Some(5), Some(6), Some(3), Some(2)]);
        assert_eq!(leases.take("h"), None);
    }

    #[test]
    fn survives_reopening_and_refuses_garbage() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut ipam = Ipam::open(dir.path(), range("10.0.0.0/24")).expect("opens");
        let ip = ipam.take("a").expect("free");
        ipam.take("b").expect("free");
        let mut again = Ipam::open(dir.path(), range("10.0.0.0/24")).expect("opens");
        assert_eq!(again.take("a").expect("held"), ip);
        assert_eq!(again.leases, ipam.leases);
        fs::write(dir.path().join("leases.json"), "{").expect("written");
        assert!(Ipam::open(dir.path(), range("10.0.0.0/24")).is_err());
    }

    #[test]
    fn another_range_drops_what_is_outside() {
        let mut leases = Leases::new(range("10.0.0.0/24"));
        leases.take("a");
        let mut moved = leases.moved_to(range("10.1.0.0/24"));
        assert_eq!(moved.take("a"), Some(Ipv4Addr::new(10, 1, 0, 2)));
    }

    proptest! {
        #[test]
        fn no_two_hold_one_address(steps in prop::collection::vec((0u8..20, any::<bool>()), 0..200)) {
            let range = range("10.0.0.0/28");
            let mut leases = Leases::new(range);
            for (id, take) in steps {
                let id = id.to_string();
                let before = leases.held.get(&id).copied();
                let full = leases.held.len() == 13;
                if take {
                    let got = leases.take(&id);
                    prop_assert!(before.is_none() || got == before);
                    prop_assert_eq!(got.is_none(), before.is_none() && full);
                } else {
                    prop_assert_eq!(leases.free(&id), before.is_some());
                }
                let held: BTreeSet<_> = leases.held.values().collect();
                prop_assert_eq!(held.len(), leases.held.len());
                prop_assert!(held.iter().all(|ip| range.contains(*ip) && ip.octets()[3] > 1 && ip.octets()[3] < 15));
                prop_assert!(leases.freed.iter().all(|ip| !held.contains(ip)));
            }
        }
    }
}
