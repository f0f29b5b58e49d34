//! Values of the libraries' own types.

use std::net::IpAddr;

use super::functions::{AuthzState, Cidr, NamedFormat, Semver, Url};
use crate::api::quantity::Quantity;

/// A value whose inside only its library sees.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the types")]
pub enum Opaque {
    Ip(IpAddr),
    Cidr(Cidr),
    Quantity(Quantity),
    Semver(Semver),
    Url(Url),
    Format(&'static NamedFormat),
    Authz(AuthzState),
}

impl Opaque {
    /// Its type's name.
    pub fn type_name(&self) -> &'static str {
        match self {
            Opaque::Ip(_) => "net.IP",
            Opaque::Cidr(_) => "net.CIDR",
            Opaque::Quantity(_) => "kubernetes.Quantity",
            Opaque::Semver(_) => "kubernetes.Semver",
            Opaque::Url(_) => "kubernetes.URL",
            Opaque::Format(_) => "kubernetes.NamedFormat",
            Opaque::Authz(state) => state.type_name(),
        }
    }

    /// Its text, if it has one.
    pub fn to_text(&self) -> Option<String> {
        Some(match self {
            Opaque::Ip(ip) => ip.to_string(),
            Opaque::Cidr(cidr) => cidr.to_string(),
            Opaque::Quantity(quantity) => quantity.to_string(),
            Opaque::Semver(version) => version.to_string(),
            Opaque::Url(url) => url.text().into(),
            Opaque::Format(format) => format.name.into(),
            Opaque::Authz(_) => return None,
        })
    }

    /// What it counts for in the cost of comparing.
    pub(super) fn cost_size(&self) -> u64 {
        match self {
            Opaque::Ip(ip) => {
                if ip.is_ipv4() {
                    4
                } else {
                    16
                }
            }
            Opaque::Cidr(cidr) => cidr.width() as u64,
            _ => 1,
        }
    }
}
