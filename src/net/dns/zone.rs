//! The records of the cluster domain. Built once, then only read.
//!
//! Names are kept lower-case, without the domain and without a final dot. A name above an existing one exists too, with no records: so
//! "no such name" and "no such record" are told apart as RFC 2308 and RFC 8020 want it.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

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

/// The records under one domain, and the names of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    domain: String,
    names: HashMap<Box<str>, Vec<Record>>,
    pointers: HashMap<Ipv4Addr, Vec<Arc<str>>>,
}

impl Zone {
    /// An empty zone: the domain, its name server's name, and nothing else.
    pub fn new(domain: &str) -> Zone {
        let domain = domain.trim_matches('.').to_ascii_lowercase();
        let mut zone = Zone { domain, ..Zone::default() };
        zone.touch("ns.dns");
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

    /// Adds a record to a name, given without the domain. A record that is there already is not doubled.
    pub fn add(&mut self, name: &str, record: Record) {
        let name = name.to_ascii_lowercase();
        self.touch(&name);
        let records = self.names.get_mut(name.as_str()).expect("touched just before");
        if !records.contains(&record) {
            records.push(record);
        }
    }

    /// Makes a name exist, and with it those above.
    pub fn touch(&mut self, name: &str) {
        let mut rest = name;
        while !rest.is_empty() && !self.names.contains_key(rest) {
            self.names.insert(rest.into(), Vec::new());
            rest = rest.split_once('.').map_or("", |(_, above)| above);
        }
    }

    /// Adds a name, in full, to an address.
    pub fn point(&mut self, address: Ipv4Addr, name: Arc<str>) {
        let names = self.pointers.entry(address).or_default();
        if !names.contains(&name) {
            names.push(name);
        }
    }

    /// The part of a name before the domain; `None`: the name is not below this domain.
    pub(crate) fn relative<'a>(&self, name: &'a str) -> Option<&'a str> {
        let rest = name.strip_suffix(self.domain.as_str())?;
        if rest.is_empty() { Some("") } else { rest.strip_suffix('.') }
    }

    /// The records of a name without the domain; `None`: there is no such name. The domain itself is the empty name.
    pub(crate) fn records(&self, name: &str) -> Option<&[Record]> {
        if name.is_empty() { Some(&[]) } else { self.names.get(name).map(Vec::as_slice) }
    }

    /// The names of an address, in full.
    pub(crate) fn pointers(&self, address: Ipv4Addr) -> &[Arc<str>] {
        self.pointers.get(&address).map_or(&[], Vec::as_slice)
    }
}
