//! The records of the cluster domain, and how they change.
//!
//! Names are kept lower-case, without the domain and without a final dot. A name above an existing one exists too, with no records: so
//! "no such name" and "no such record" are told apart as RFC 2308 and RFC 8020 want it.
//!
//! Words: a *part* is what one Service contributes. A zone is the sum of its parts; it is cheap to clone, and adding or removing a part costs
//! what that part costs, however large the zone is. A name lives as long as a part or a name below it needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use imbl::HashMap;

/// A record, without its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An address.
    A(Ipv4Addr),
    /// A port of a name, given in full.
    Srv {
        /// The port.
        port: u16,
        /// The name, without final dot.
        target: Arc<str>,
    },
    /// An alias of a name anywhere, without final dot.
    Cname(Arc<str>),
    /// Text.
    Txt(Arc<str>),
}

/// What one Service contributes: names with their records, and the names of addresses. A record is in it once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    names: BTreeMap<String, Vec<Record>>,
    pointers: BTreeSet<(Ipv4Addr, Arc<str>)>,
}

impl Part {
    /// Adds a record to a name, given without the domain. A record that is there already is not doubled.
    pub fn add(&mut self, name: &str, record: Record) {
        let records = self.names.entry(name.to_ascii_lowercase()).or_default();
        if !records.contains(&record) {
            records.push(record);
        }
    }

    /// Makes a name exist.
    pub fn touch(&mut self, name: &str) {
        self.names.entry(name.to_ascii_lowercase()).or_default();
    }

    /// Adds a name, in full, to an address.
    pub fn point(&mut self, address: Ipv4Addr, name: Arc<str>) {
        self.pointers.insert((address, name));
    }
}

/// A name of the zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    records: Vec<Record>,
    /// How many parts name it, and how many names are directly below it.
    held: usize,
}

/// The records under one domain, and the names of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    domain: String,
    names: HashMap<Box<str>, Node>,
    pointers: HashMap<Ipv4Addr, Vec<Arc<str>>>,
}

fn above(name: &str) -> &str {
    name.split_once('.').map_or("", |(_, above)| above)
}

impl Zone {
    /// An empty zone: the domain, its name server's name, and nothing else.
    pub fn new(domain: &str) -> Zone {
        let domain = domain.trim_matches('.').to_ascii_lowercase();
        let mut zone = Zone { domain, ..Zone::default() };
        zone.hold("ns.dns");
        zone
    }

    /// The domain, without final dot.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// A name of the zone in full.
    pub fn full(&self, name: &str) -> Arc<str> {
        format!("{name}.{}", self.domain).into()
    }

    /// Adds what a Service contributes.
    pub fn add(&mut self, part: &Part) {
        for (name, records) in &part.names {
            self.hold(name);
            if let Some(node) = self.names.get_mut(name.as_str()) {
                node.records.extend(records.iter().cloned());
            }
        }
        for (address, name) in &part.pointers {
            self.pointers.entry(*address).or_default().push(name.clone());
        }
    }

    /// Removes what was added.
    pub fn remove(&mut self, part: &Part) {
        for (name, records) in &part.names {
            if let Some(node) = self.names.get_mut(name.as_str()) {
                records.iter().for_each(|record| remove_one(&mut node.records, record));
            }
            self.release(name);
        }
        for (address, name) in &part.pointers {
            if let Some(names) = self.pointers.get_mut(address) {
                remove_one(names, name);
                if names.is_empty() {
                    self.pointers.remove(address);
                }
            }
        }
    }

    /// One more needs this name; a new one needs the one above.
    fn hold(&mut self, name: &str) {
        let mut rest = name;
        while !rest.is_empty() {
            if let Some(node) = self.names.get_mut(rest) {
                node.held += 1;
                return;
            }
            self.names.insert(rest.into(), Node { records: Vec::new(), held: 1 });
            rest = above(rest);
        }
    }

    /// One less needs this name; one that nobody needs goes, and needs the one above no more.
    fn release(&mut self, name: &str) {
        let mut rest = name;
        while !rest.is_empty() {
            let Some(node) = self.names.get_mut(rest) else { return };
            node.held = node.held.saturating_sub(1);
            if node.held > 0 {
                return;
            }
            self.names.remove(rest);
            rest = above(rest);
        }
    }

    /// The part of a name before the domain; `None`: the name is not below this domain.
    pub(crate) fn relative<'a>(&self, name: &'a str) -> Option<&'a str> {
        let rest = name.strip_suffix(self.domain.as_str())?;
        if rest.is_empty() { Some("") } else { rest.strip_suffix('.') }
    }

    /// The records of a name without the domain; `None`: there is no such name. The domain itself is the empty name.
    pub(crate) fn records(&self, name: &str) -> Option<&[Record]> {
        if name.is_empty() { Some(&[]) } else { self.names.get(name).map(|node| node.records.as_slice()) }
    }

    /// The names of an address, in full.
    pub(crate) fn pointers(&self, address: Ipv4Addr) -> &[Arc<str>] {
        self.pointers.get(&address).map_or(&[], Vec::as_slice)
    }
}

fn remove_one<T: PartialEq>(from: &mut Vec<T>, what: &T) {
    if let Some(at) = from.iter().position(|one| one == what) {
        from.remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_live_as_long_as_they_are_needed() {
        let part = |name: &str, last: u8| {
            let mut part = Part::default();
            part.touch("default.svc");
            part.add(&format!("{name}.default.svc"), Record::A([10, 43, 0, last].into()));
            part.add(&format!("_http._tcp.{name}.default.svc"), Record::Txt("x".into()));
            part.point([10, 43, 0, 7].into(), format!("{name}.default.svc.cluster.local").into());
            part
        };
        let empty = Zone::new("cluster.local");
        let mut zone = empty.clone();
        let (web, db) = (part("Web", 7), part("db", 8));
        zone.add(&web);
        zone.add(&db);
        let known = |zone: &Zone| {
            ["svc", "default.svc", "web.default.svc", "_tcp.web.default.svc", "db.default.svc"].map(|name| zone.records(name).is_some())
        };
        assert_eq!(known(&zone), [true; 5]);
        assert_eq!(zone.pointers([10, 43, 0, 7].into()).len(), 2);
        zone.remove(&web);
        assert_eq!(known(&zone), [true, true, false, false, true]);
        assert_eq!(zone.records("db.default.svc"), Some(&[Record::A([10, 43, 0, 8].into())][..]));
        zone.remove(&db);
        assert_eq!(zone, empty);
    }
}
