//! Which of its addresses a machine is known by when nobody says so, and how good a choice that is.
//!
//! As upstream's `apimachinery/pkg/util/net/interface.go`, the link that the default route leads by comes first: other links, such as bridges of
//! containers, have addresses that nobody else can reach.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use super::ConfigError;

/// The IPv4 routes of the calling thread's network namespace, proc_net(5).
const ROUTES: &str = "/proc/thread-self/net/route";
/// What our own links are called; they carry the pods' gateway and the like.
const OWN_LINKS: &str = "orch";

/// Where an address comes from, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Somebody said so.
    Chosen,
    /// It is that of the link with the default route.
    DefaultRoute,
    /// It is that of another link.
    Link,
    /// The machine has none, and talks to itself only.
    Nowhere,
}

/// An address of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Where it comes from.
    pub origin: Origin,
}

impl Address {
    /// The best there is at the moment.
    pub(super) fn best() -> Result<Address, ConfigError> {
        let nowhere = Address { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), origin: Origin::Nowhere };
        Ok(Address::all()?.first().copied().unwrap_or(nowhere))
    }

    /// All that others may know this machine by, the best first: none of loopback, of our own links, or that hold on one link only.
    pub fn all() -> Result<Vec<Address>, ConfigError> {
        let interfaces = nix::ifaddrs::getifaddrs().map_err(|e| ConfigError::Machine { what: "the node's address", source: e.into() })?;
        let of = |interface: nix::ifaddrs::InterfaceAddress| {
            let address = interface.address.filter(|_| !interface.interface_name.starts_with(OWN_LINKS))?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            let v6 = || address.as_sockaddr_in6().map(|a| a.ip()).filter(|ip| !ip.is_unicast_link_local()).map(IpAddr::V6);
            v4.or_else(v6).filter(|ip| !ip.is_loopback()).map(|ip| (interface.interface_name, ip))
        };
        // A machine without procfs or IPv4 has no such routes.
        let routes = std::fs::read_to_string(ROUTES).unwrap_or_default();
        Ok(ordered(interfaces.filter_map(of).collect(), &default_routes(&routes)))
    }
}

/// IPv4 before IPv6, then links with a default route by its metric, then as the kernel lists them.
fn ordered(found: Vec<(String, IpAddr)>, default_routes: &HashMap<&str, u32>) -> Vec<Address> {
    let mut found: Vec<(Option<u32>, IpAddr)> =
        found.into_iter().map(|(link, ip)| (default_routes.get(link.as_str()).copied(), ip)).collect();
    found.sort_by_key(|(metric, ip)| (ip.is_ipv6(), metric.is_none(), *metric));
    let address = |(metric, ip): (Option<u32>, IpAddr)| {
        let origin = if metric.is_some() { Origin::DefaultRoute } else { Origin::Link };
        Address { ip, origin }
    };
    found.into_iter().map(address).collect()
}

/// Links with a default route, with its lowest metric.
fn default_routes(table: &str) -> HashMap<&str, u32> {
    let mut links: HashMap<&str, u32> = HashMap::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [link, "00000000", _, _, _, _, metric, "00000000", ..] = fields[..] else { continue };
        let Ok(metric) = metric.parse() else { continue };
        let lowest = links.entry(link).or_insert(metric);
        *lowest = metric.min(*lowest);
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_address() {
        let header = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let local = "docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let default = |link: &str, metric: u32| format!("{link}\t00000000\t0100000A\t0003\t0\t0\t{metric}\t00000000\t0\t0\t0\n");
        let found = [("docker0", "172.17.0.1"), ("eth0", "fd00::1"), ("eth0", "10.0.0.2"), ("wlan0", "10.1.0.2")];
        let found: Vec<(String, IpAddr)> = found.iter().map(|(link, ip)| ((*link).into(), ip.parse().unwrap())).collect();
        for (table, want) in [
            (String::new(), "172.17.0.1 10.0.0.2 10.1.0.2 fd00::1"),
            (format!("{header}{local}"), "172.17.0.1 10.0.0.2 10.1.0.2 fd00::1"),
            (format!("{header}{local}{}", default("eth0", 100)), "10.0.0.2* 172.17.0.1 10.1.0.2 fd00::1*"),
            (format!("{header}{}{}{local}", default("eth0", 600), default("wlan0", 100)), "10.1.0.2* 10.0.0.2* 172.17.0.1 fd00::1*"),
            (format!("{header}nonsense\n\neth0 00000000 x 3 0 0 many 00000000\n"), "172.17.0.1 10.0.0.2 10.1.0.2 fd00::1"),
        ] {
            let show = |address: Address| format!("{}{}", address.ip, if address.origin == Origin::DefaultRoute { "*" } else { "" });
            let all: Vec<String> = ordered(found.clone(), &default_routes(&table)).into_iter().map(show).collect();
            assert_eq!(all.join(" "), want, "{table}");
        }
    }
}
