//! Addresses and ports for services: what is taken is what the newest snapshot shows and what writes under way have reserved.
//!
//! One process allocates, so no bitmap is stored. The order that makes it safe: look at the newest snapshot *while holding* the
//! reservations' lock, and give a reservation back only after its commit is visible. Then each taken value is in one or the other.
//!
//! Automatic choices start in the upper part of a range, at a place that depends on the service's name, and go up; the lower part is
//! left to those who choose (KEP-3070, KEP-3668) until the upper is full.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use parking_lot::Mutex;

use crate::api::{Key, Scope};
use crate::server::store::{Index, Snapshot};

/// What the registry must be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Where ClusterIPs come from.
    pub service_cidr: IpNet,
    /// Where NodePorts come from.
    pub node_port_range: RangeInclusive<u16>,
    /// Seconds that pods stay on a node that is not ready, unless they say so themselves.
    pub not_ready_toleration: u32,
    /// The same on a node that is unreachable.
    pub unreachable_toleration: u32,
}

impl Default for RegistryConfig {
    fn default() -> RegistryConfig {
        let service_cidr = ipnet::Ipv4Net::new(Ipv4Addr::new(10, 43, 0, 0), 16).expect("16 is a legal prefix length");
        RegistryConfig {
            service_cidr: service_cidr.into(),
            node_port_range: 30000..=32767,
            not_ready_toleration: 300,
            unreachable_toleration: 300,
        }
    }
}

/// Something that only one service may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Item {
    /// A ClusterIP.
    Address(IpAddr),
    /// A NodePort.
    Port(u16),
}

/// Services by what they have. The store keeps it.
pub(super) const TAKEN: Index = Index {
    name: "taken",
    terms: |entry, found| {
        if entry.key.is::<Service>()
            && let Ok(service) = entry.typed::<Service>()
        {
            items(&service).for_each(|item| found(&[&item.to_string()]));
        }
    },
};

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Address(address) => address.fmt(f),
            Item::Port(port) => port.fmt(f),
        }
    }
}

/// What writes under way have set aside.
#[derive(Clone, Default)]
pub(in super::super) struct Reservations(Arc<Mutex<HashSet<Item>>>);

/// A reservation; dropping it gives the item back.
pub(in super::super) struct Held {
    reservations: Reservations,
    item: Item,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.reservations.0.lock().remove(&self.item);
    }
}

/// Why an item can't be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AllocationError {
    /// Another service has it.
    #[error("provided {0} is already allocated")]
    Taken(&'static str),
    /// None is left.
    #[error("range is full")]
    Full,
}

/// A look at what is taken, during which nothing else can be.
pub(super) struct Allocator<'a> {
    reservations: &'a Reservations,
    reserved: parking_lot::MutexGuard<'a, HashSet<Item>>,
    snapshot: Snapshot,
    /// The service itself: what it has is free for it.
    except: Key,
    avoided: HashSet<Item>,
}

impl<'a> Allocator<'a> {
    /// Takes the lock, then the snapshot: see the module's text for why in this order. `except` is the service itself.
    pub fn new(reservations: &'a Reservations, latest: &dyn Fn() -> Snapshot, except: Key) -> Allocator<'a> {
        let reserved = reservations.0.lock();
        Allocator { reservations, reserved, snapshot: latest(), except, avoided: HashSet::new() }
    }

    /// From now on these count as taken.
    pub fn avoid(&mut self, items: impl Iterator<Item = Item>) {
        self.avoided.extend(items);
    }

    fn is_taken(&self, item: &Item) -> bool {
        let mut having = self.snapshot.found(&TAKEN, &[&item.to_string()], &Scope::of::<Service>());
        self.avoided.contains(item) || having.any(|entry| entry.key != self.except)
    }

    /// Exactly this one.
    pub fn take(&mut self, item: Item) -> Result<Held, AllocationError> {
        let what = if matches!(item, Item::Address(_)) { "IP" } else { "port" };
        if self.is_taken(&item) || !self.reserved.insert(item) {
            return Err(AllocationError::Taken(what));
        }
        Ok(Held { reservations: self.reservations.clone(), item })
    }

    /// Any of `count` items; `make` gives the one at an index. The first `kept` are used last.
    pub fn any(&mut self, count: u128, kept: u128, seed: &str, make: impl Fn(u128) -> Item) -> Result<(Item, Held), AllocationError> {
        let upper = count.saturating_sub(kept);
        let start = if upper == 0 { 0 } else { u128::from(crc32fast::hash(seed.as_bytes())) % upper };
        let order = (0..upper).map(|step| kept + (start + step) % upper).chain(0..kept.min(count));
        for index in order {
            let item = make(index);
            if let Ok(held) = self.take(item) {
                return Ok((item, held));
            }
        }
        Err(AllocationError::Full)
    }
}

/// What a service has.
fn items(service: &Service) -> impl Iterator<Item = Item> {
    let spec = service.spec.as_ref();
    let single = spec.and_then(|spec| spec.cluster_ip.as_deref());
    let addresses = spec.into_iter().flat_map(|spec| spec.cluster_ips.iter().flatten()).map(String::as_str).chain(single);
    let addresses: Vec<_> = addresses.filter_map(|text| text.parse().ok()).map(Item::Address).collect();
    let health = spec.and_then(|spec| spec.health_check_node_port);
    let ports = spec.into_iter().flat_map(|spec| spec.ports.iter().flatten()).filter_map(|port| port.node_port).chain(health);
    let ports: Vec<_> = ports.filter_map(|port| u16::try_from(port).ok().filter(|port| *port != 0)).map(Item::Port).collect();
    addresses.into_iter().chain(ports)
}

/// A range as its first address, the number of usable ones after it, and how many of those are left to those who choose.
pub(super) fn address_space(cidr: &IpNet) -> (IpAddr, u128, u128) {
    let bits = cidr.max_prefix_len() - cidr.prefix_len();
    // The first address is the network's; in IPv4 the last is the broadcast's. More than 2^16 are never needed to find a free one.
    let size = if bits >= 64 { u128::from(u64::MAX) } else { 1u128 << bits };
    let reserved = if cidr.addr().is_ipv4() { 2 } else { 1 };
    let count = size.saturating_sub(reserved);
    let kept = if size < 16 { 0 } else { (size / 16).clamp(16, 256).min(count) };
    (cidr.network(), count, kept)
}

/// The address at an index of a range, counting from the one after the network's.
pub(super) fn address_at(network: IpAddr, index: u128) -> IpAddr {
    match network {
        IpAddr::V4(v4) => {
            let offset = u32::try_from(index + 1).unwrap_or(u32::MAX);
            IpAddr::V4(Ipv4Addr::from(u32::from(v4).wrapping_add(offset)))
        }
        IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).wrapping_add(index + 1).into()),
    }
}

/// How many ports at the start of a range of this size are left to those who choose.
pub(super) fn kept_ports(size: u128) -> u128 {
    if size < 16 { 0 } else { (size / 32).clamp(16, 128).min(size) }
}
