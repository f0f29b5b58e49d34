//! Who is behind a hardware address, and which hardware address an IP address has: the entries of a VXLAN device, which never asks.
//!
//! Messages are laid out as `linux/neighbour.h` has them. Both tables hold pairs of a hardware address and an IP address; they differ in the
//! family of the request and in which of the two is the key.

use std::io;
use std::net::Ipv4Addr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};

use super::link::Links;
use super::netlink::{Attrs, attribute};

const NEW: u16 = 28;
const DELETE: u16 = 29;
const GET: u16 = 30;
const DESTINATION: u16 = 1;
const HARDWARE: u16 = 2;
const PERMANENT: u16 = 0x80;
const SELF: u8 = 2;
const HEADER: usize = 12;

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// Which of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// Hardware address to the node it is sent to.
    Forwarding,
    /// IP address to hardware address.
    Neighbours,
}

impl Table {
    /// `struct ndmsg`.
    fn header(self, link: u32) -> Vec<u8> {
        let (family, flags) = match self {
            Table::Forwarding => (libc::AF_BRIDGE, SELF),
            Table::Neighbours => (libc::AF_INET, 0),
        };
        let mut header = vec![family as u8, 0, 0, 0];
        header.extend(link.to_ne_bytes());
        header.extend(PERMANENT.to_ne_bytes());
        header.extend([flags, 0]);
        header
    }
}

fn entry(table: Table, link: u32, mac: Mac, ip: Ipv4Addr) -> Vec<u8> {
    Attrs::after(&table.header(link)).bytes(DESTINATION, &ip.octets()).bytes(HARDWARE, &mac).done()
}

/// The pair that a message tells of, if it is a lasting one of this link.
fn parse(payload: &[u8], link: u32) -> Option<(Mac, Ipv4Addr)> {
    let (header, attributes) = payload.split_at_checked(HEADER)?;
    let state = u16::from_ne_bytes([header[8], header[9]]);
    if header[4..8] != link.to_ne_bytes() || state & PERMANENT == 0 {
        return None;
    }
    let ip = Ipv4Addr::from(*attribute(attributes, DESTINATION)?.first_chunk::<4>()?);
    Some((attribute(attributes, HARDWARE)?.try_into().ok()?, ip))
}

impl Links {
    /// The lasting entries of a link.
    pub fn entries(&self, table: Table, link: u32) -> io::Result<Vec<(Mac, Ipv4Addr)>> {
        let answers = self.0.request(GET, NLM_F_DUMP, table.header(link))?;
        Ok(answers.iter().filter_map(|(_, payload)| parse(payload, link)).collect())
    }

    /// Makes an entry, or changes the one with this key.
    pub fn put_entry(&self, table: Table, link: u32, mac: Mac, ip: Ipv4Addr) -> io::Result<()> {
        self.0.request(NEW, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, entry(table, link, mac, ip)).map(drop)
    }

    /// Removes one; its being gone already is fine.
    pub fn remove_entry(&self, table: Table, link: u32, mac: Mac, ip: Ipv4Addr) -> io::Result<()> {
        match self.0.request(DELETE, NLM_F_ACK, entry(table, link, mac, ip)) {
            Err(e) if e.raw_os_error() != Some(libc::ENOENT) => Err(e),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lasting_entries_of_the_link_are_read() {
        let (mac, ip) = ([10, 0x58, 10, 42, 1, 0], Ipv4Addr::new(192, 0, 2, 7));
        let written = entry(Table::Neighbours, 7, mac, ip);
        assert_eq!(parse(&written, 7), Some((mac, ip)));
        assert_eq!(parse(&written, 8), None);
        let mut passing = written.clone();
        passing[8] = 2; // reachable, for now
        assert_eq!(parse(&passing, 7), None);
        assert_eq!(parse(&written[..9], 7), None);
    }
}
