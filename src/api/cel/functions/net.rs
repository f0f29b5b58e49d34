//! IP addresses and networks (apiserver `pkg/cel/library/ip.go`, `cidr.go`).

use std::net::IpAddr;

use super::{Context, Res, Row, Value};
use crate::api::cel::error::EvalError;
use crate::api::cel::opaque::Opaque;

pub(super) const TABLE: &[Row] = &[
    Row(
        "ip",
        |_, args| match &args[0] {
            Value::String(text) => Ok(Opaque::Ip(parse_ip(text.as_str()).map_err(|why| {
                EvalError::new(format!("IP Address {:?} parse error during conversion from string: {why}", text.as_str()))
            })?)
            .into()),
            other => Ok(Opaque::Ip(cidr(other)?.address).into()),
        },
        &["string_to_ip|(string) -> net.IP", "cidr_ip|net.CIDR.() -> net.IP"],
    ),
    Row("isIP", |_, args| Ok(Value::Bool(parse_ip(args[0].str()?).is_ok())), &["is_ip|(string) -> bool"]),
    Row("ip.isCanonical", is_canonical, &["ip_is_canonical|(string) -> bool"]),
    Row("family", |_, args| Ok(Value::Int(if ip(&args[0])?.is_ipv4() { 4 } else { 6 })), &["ip_family|net.IP.() -> int"]),
    Row("isUnspecified", |_, args| Ok(Value::Bool(ip(&args[0])?.is_unspecified())), &["ip_is_unspecified|net.IP.() -> bool"]),
    Row("isLoopback", |_, args| Ok(Value::Bool(ip(&args[0])?.is_loopback())), &["ip_is_loopback|net.IP.() -> bool"]),
    Row(
        "isLinkLocalMulticast",
        |_, args| Ok(Value::Bool(link_local_multicast(ip(&args[0])?))),
        &["ip_is_link_local_multicast|net.IP.() -> bool"],
    ),
    Row(
        "isLinkLocalUnicast",
        |_, args| Ok(Value::Bool(link_local_unicast(ip(&args[0])?))),
        &["ip_is_link_local_unicast|net.IP.() -> bool"],
    ),
    Row("isGlobalUnicast", |_, args| Ok(Value::Bool(global_unicast(ip(&args[0])?))), &["ip_is_global_unicast|net.IP.() -> bool"]),
    Row("cidr", |_, args| Ok(Opaque::Cidr(Cidr::read(args[0].str()?)?).into()), &["string_to_cidr|(string) -> net.CIDR"]),
    Row("isCIDR", |_, args| Ok(Value::Bool(Cidr::parse(args[0].str()?).is_ok())), &["is_cidr|(string) -> bool"]),
    Row(
        "containsIP",
        |_, args| {
            let inner = match &args[1] {
                Value::String(text) => parse_ip(text.as_str()).map_err(EvalError::new)?,
                other => ip(other)?,
            };
            Ok(Value::Bool(cidr(&args[0])?.contains(inner)))
        },
        &["cidr_contains_ip_string|net.CIDR.(string) -> bool", "cidr_contains_ip_ip|net.CIDR.(net.IP) -> bool"],
    ),
    Row(
        "containsCIDR",
        |_, args| {
            let inner = match &args[1] {
                Value::String(text) => Cidr::read(text.as_str())?,
                other => *cidr(other)?,
            };
            let outer = cidr(&args[0])?;
            Ok(Value::Bool(outer.prefix <= inner.prefix && outer.contains(inner.masked().address)))
        },
        &["cidr_contains_cidr_string|net.CIDR.(string) -> bool", "cidr_contains_cidr|net.CIDR.(net.CIDR) -> bool"],
    ),
    Row("masked", |_, args| Ok(Opaque::Cidr(cidr(&args[0])?.masked()).into()), &["cidr_masked|net.CIDR.() -> net.CIDR"]),
    Row("prefixLength", |_, args| Ok(Value::Int(i64::from(cidr(&args[0])?.prefix))), &["cidr_prefix_length|net.CIDR.() -> int"]),
];

fn ip(value: &Value<'_>) -> Res<IpAddr> {
    match value {
        Value::Opaque(opaque) => match &**opaque {
            Opaque::Ip(ip) => Ok(*ip),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn cidr<'v>(value: &'v Value<'_>) -> Res<&'v Cidr> {
    match value {
        Value::Opaque(opaque) => match &**opaque {
            Opaque::Cidr(cidr) => Ok(cidr),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn parse_ip(text: &str) -> Result<IpAddr, String> {
    if text.contains('%') {
        return Err(format!("IP address {text:?} with zone value is not allowed"));
    }
    match text.parse() {
        Ok(IpAddr::V6(ip)) if ip.to_ipv4_mapped().is_some() => Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed")),
        Ok(ip) => Ok(ip),
        Err(_) => Err(format!("ParseAddr({text:?}): unable to parse IP")),
    }
}

fn is_canonical<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let text = args[0].str()?;
    let ip = parse_ip(text).map_err(EvalError::new)?;
    Ok(Value::Bool(ip.to_string() == text))
}

fn link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.octets()[0] == 0xff && ip.octets()[1] & 0xf == 2,
    }
}

fn link_local_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// As Go's `IsGlobalUnicast`: private addresses count.
fn global_unicast(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !broadcast && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !link_local_unicast(ip)
}

/// A network with the address it was written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    fn parse(text: &str) -> Result<Cidr, String> {
        let fault = |why: &str| format!("netip.ParsePrefix({text:?}): {why}");
        let (address, prefix) = text.rsplit_once('/').ok_or_else(|| fault("no '/'"))?;
        if address.contains('%') {
            return Err(fault("IPv6 zones cannot be present in a prefix"));
        }
        let address = parse_ip(address).map_err(|why| fault(&why))?;
        let plain = prefix.bytes().all(|b| b.is_ascii_digit()) && (prefix == "0" || !prefix.starts_with('0'));
        let prefix: u8 = prefix.parse().ok().filter(|_| plain).ok_or_else(|| fault(&format!("bad bits after slash: {prefix:?}")))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if prefix > most { Err(fault("prefix length out of range")) } else { Ok(Cidr { address, prefix }) }
    }

    fn read(text: &str) -> Res<Cidr> {
        Cidr::parse(text).map_err(|why| EvalError::new(format!("network address parse error during conversion from string: {why}")))
    }

    fn masked(&self) -> Cidr {
        let address = match self.address {
            IpAddr::V4(ip) => IpAddr::V4((u32::from(ip) & u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)).into()),
            IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0)).into()),
        };
        Cidr { address, ..*self }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.address.is_ipv4() && Cidr { address: ip, ..*self }.masked() == self.masked()
    }

    /// Bytes of its address.
    pub fn width(&self) -> usize {
        if self.address.is_ipv4() { 4 } else { 16 }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
