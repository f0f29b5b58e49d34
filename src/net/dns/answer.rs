//! A query and a zone to an answer. Pure.
//!
//! Follows the Kubernetes DNS specification 1.1.0 and, where that is silent, CoreDNS' kubernetes plug-in: the TTL is 5 seconds, negative
//! answers carry an SOA, a name `1-2-3-4.namespace.pod` has its address whether or not there is such a pod (CoreDNS' `pods insecure`).

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, Metadata, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record as Answered, RecordType};

use super::{Record, Zone};

/// How long an answer of the cluster may be kept, in seconds.
const TTL: u32 = 5;
/// The most aliases followed within the zone.
const ALIASES: usize = 8;

/// Who answers.
pub(crate) enum Answer {
    /// This zone.
    Here(Box<Message>),
    /// An upstream server.
    Elsewhere,
    /// This zone knows an alias of a name elsewhere, whose records are to be added.
    Alias { ours: Box<Message>, query: Box<Message> },
}

/// Answers a query of one question.
pub(crate) fn answer(zone: &Zone, request: &Message) -> Answer {
    let Some(query) = request.queries.first().filter(|query| query.query_class() == DNSClass::IN) else { return Answer::Elsewhere };
    let text = text_of(query.name());
    if let Some(name) = zone.relative(&text) {
        return within(zone, request, query, name);
    }
    let names = address_of_pointer(&text).map_or(&[][..], |address| zone.pointers(address));
    if names.is_empty() {
        return Answer::Elsewhere;
    }
    let mut reply = reply(request, true);
    if matches!(query.query_type(), RecordType::PTR | RecordType::ANY) {
        reply.answers = names.iter().filter_map(|name| Some(record(query.name(), RData::PTR(PTR(full(name)?))))).collect();
    } else {
        reply.authorities.extend(soa(zone));
    }
    Answer::Here(Box::new(reply))
}

fn within(zone: &Zone, request: &Message, query: &Query, name: &str) -> Answer {
    let mut reply = reply(request, true);
    let mut owner = query.name().clone();
    let mut name = name.to_owned();
    for _ in 0..ALIASES {
        let found = records(zone, &name);
        let alias = found.as_ref().and_then(|records| records.iter().find_map(|r| if let Record::Cname(to) = r { Some(to) } else { None }));
        let Some((to, target)) = alias.and_then(|to| Some((to, full(to)?))).filter(|_| query.query_type() != RecordType::CNAME) else {
            match found {
                Some(records) => fill(zone, &mut reply, &owner, query.query_type(), &name, &records),
                None => reply.metadata.response_code = ResponseCode::NXDomain,
            }
            break;
        };
        reply.answers.push(record(&owner, RData::CNAME(CNAME(target.clone()))));
        let to = to.to_ascii_lowercase();
        let Some(next) = zone.relative(&to) else {
            let mut follow = Message::query();
            follow.metadata.recursion_desired = true;
            follow.add_query(Query::query(target, query.query_type()));
            return Answer::Alias { ours: Box::new(reply), query: Box::new(follow) };
        };
        name = next.to_owned();
        owner = target;
    }
    if reply.answers.is_empty() {
        reply.authorities.extend(soa(zone));
    }
    Answer::Here(Box::new(reply))
}

/// The records of a name, those included that follow from the name alone. `None`: no such name.
fn records(zone: &Zone, name: &str) -> Option<Vec<Record>> {
    if let Some(records) = zone.records(name) {
        return Some(records.to_vec());
    }
    let (above, last) = name.rsplit_once('.').unwrap_or(("", name));
    if last != "pod" {
        return None;
    }
    match above.split('.').collect::<Vec<_>>()[..] {
        [_] => Some(Vec::new()), // `pod` and `namespace.pod`, above such names
        [address, _] => address.replace('-', ".").parse().ok().map(|address| vec![Record::A(address)]),
        _ => None,
    }
}

fn fill(zone: &Zone, reply: &mut Message, owner: &Name, wanted: RecordType, name: &str, records: &[Record]) {
    let start = reply.answers.len();
    if name.is_empty() {
        match wanted {
            RecordType::SOA => reply.answers.extend(soa(zone)),
            RecordType::NS => reply.answers.extend(full(&zone.full("ns.dns")).map(|ns| record(owner, RData::NS(NS(ns))))),
            _ => {}
        }
    }
    for known in records {
        let data = match (known, wanted) {
            (Record::A(address), RecordType::A | RecordType::ANY) => RData::A(A(*address)),
            (Record::Srv { port, target }, RecordType::SRV | RecordType::ANY) => {
                let Some(host) = full(target) else { continue };
                add_address(zone, reply, &host, target);
                RData::SRV(SRV::new(0, 100, *port, host))
            }
            (Record::Cname(to), RecordType::CNAME | RecordType::ANY) => {
                let Some(to) = full(to) else { continue };
                RData::CNAME(CNAME(to))
            }
            (Record::Txt(text), RecordType::TXT | RecordType::ANY) => RData::TXT(TXT::new(vec![text.to_string()])),
            _ => continue,
        };
        reply.answers.push(record(owner, data));
    }
    // Clients take the first; let it not always be the same. An alias stays before what it leads to.
    let turn = usize::from(reply.metadata.id) % (reply.answers.len() - start).max(1);
    reply.answers[start..].rotate_left(turn);
}

/// The addresses of a port's host go along, to save the client a second query.
fn add_address(zone: &Zone, reply: &mut Message, host: &Name, target: &str) {
    let known = zone.relative(target).and_then(|name| zone.records(name)).unwrap_or_default();
    for known in known {
        let Record::A(address) = known else { continue };
        let additional = record(host, RData::A(A(*address)));
        if !reply.additionals.contains(&additional) {
            reply.additionals.push(additional);
        }
    }
}

fn text_of(name: &Name) -> String {
    let mut text = name.to_ascii().to_ascii_lowercase();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

/// A name of ours as a name on the wire. Names come from validated objects; one that is too long for DNS has no record.
fn full(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn record(owner: &Name, data: RData) -> Answered {
    Answered::from_rdata(owner.clone(), TTL, data)
}

fn soa(zone: &Zone) -> Option<Answered> {
    let data = SOA::new(full(&zone.full("ns.dns"))?, full(&zone.full("hostmaster"))?, 1, 7200, 1800, 86_400, TTL);
    Some(record(&full(zone.domain())?, RData::SOA(data)))
}

/// The address in `4.3.2.1.in-addr.arpa`.
fn address_of_pointer(name: &str) -> Option<Ipv4Addr> {
    let labels: Vec<&str> = name.strip_suffix(".in-addr.arpa")?.rsplit('.').collect();
    labels.join(".").parse().ok()
}

fn reply(request: &Message, authoritative: bool) -> Message {
    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&request.metadata);
    reply.metadata.authoritative = authoritative;
    reply.metadata.recursion_available = true;
    reply.add_queries(request.queries.iter().cloned());
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(super::LARGEST_DATAGRAM);
        reply.set_edns(edns);
    }
    reply
}

/// An answer that is an error.
pub(crate) fn failed(request: &Message, code: ResponseCode) -> Message {
    let mut reply = reply(request, false);
    reply.metadata.response_code = code;
    reply
}

/// An upstream server's answer as ours: with the client's id, the question as the client spelt it, and no EDNS it did not ask for.
pub(crate) fn relayed(request: &Message, theirs: Message) -> Message {
    let mut reply = reply(request, false);
    reply.metadata.response_code = theirs.metadata.response_code;
    reply.metadata.authentic_data = theirs.metadata.authentic_data;
    reply.answers = theirs.answers;
    reply.authorities = theirs.authorities;
    reply.additionals = theirs.additionals;
    reply
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::*;

    fn zone() -> Zone {
        let mut zone = Zone::new("cluster.local");
        let web = zone.full("web.default.svc");
        let mut part = Part::default();
        part.add("web.default.svc", Record::A([10, 43, 0, 7].into()));
        part.add("_http._tcp.web.default.svc", Record::Srv { port: 80, target: web.clone() });
        part.point([10, 43, 0, 7].into(), web.clone());
        part.add("out.default.svc", Record::Cname("example.com".into()));
        part.add("in.default.svc", Record::Cname(web));
        part.add("dns-version", Record::Txt("1.1.0".into()));
        part.add("db.default.svc", Record::A([10, 42, 0, 2].into()));
        part.add("db-0.db.default.svc", Record::A([10, 42, 0, 2].into()));
        zone.add(&part);
        zone
    }

    /// Asks, and writes the answer as `CODE answers | authorities`.
    fn ask(name: &str, kind: RecordType) -> String {
        let mut request = Message::query();
        request.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
        let show = |records: &[Answered]| records.iter().map(|r| format!("{} {}", r.record_type(), r.data)).collect::<Vec<_>>().join(", ");
        match answer(&zone(), &request) {
            Answer::Elsewhere => "elsewhere".into(),
            Answer::Alias { ours, query } => format!("{}, then {}", show(&ours.answers), query.queries[0].name()),
            Answer::Here(message) => {
                assert!(message.metadata.authoritative);
                let soa = message.authorities.iter().any(|r| r.record_type() == RecordType::SOA);
                format!("{:?} {}{}", message.metadata.response_code, show(&message.answers), if soa { "| SOA" } else { "" })
            }
        }
    }

    #[test]
    fn answers() {
        use RecordType::{A, AAAA, CNAME, NS, PTR, SRV, TXT};
        for (name, kind, expect) in [
            ("web.default.svc.cluster.local.", A, "NoError A 10.43.0.7"),
            ("WEB.Default.svc.cluster.local.", A, "NoError A 10.43.0.7"),
            ("web.default.svc.cluster.local.", AAAA, "NoError | SOA"),
            ("default.svc.cluster.local.", A, "NoError | SOA"),
            ("nope.default.svc.cluster.local.", A, "NXDomain | SOA"),
            ("default.nope.svc.cluster.local.", A, "NXDomain | SOA"),
            ("_http._tcp.web.default.svc.cluster.local.", SRV, "NoError SRV 0 100 80 web.default.svc.cluster.local."),
            ("_tcp.web.default.svc.cluster.local.", SRV, "NoError | SOA"),
            ("7.0.43.10.in-addr.arpa.", PTR, "NoError PTR web.default.svc.cluster.local."),
            ("8.0.43.10.in-addr.arpa.", PTR, "elsewhere"),
            ("10-42-0-9.default.pod.cluster.local.", A, "NoError A 10.42.0.9"),
            ("10-42-0-9.default.pod.cluster.local.", AAAA, "NoError | SOA"),
            ("10-42-0-999.default.pod.cluster.local.", A, "NXDomain | SOA"),
            ("default.pod.cluster.local.", A, "NoError | SOA"),
            ("dns-version.cluster.local.", TXT, "NoError TXT 1.1.0"),
            ("cluster.local.", NS, "NoError NS ns.dns.cluster.local."),
            ("db-0.db.default.svc.cluster.local.", A, "NoError A 10.42.0.2"),
            ("out.default.svc.cluster.local.", A, "CNAME example.com., then example.com."),
            ("out.default.svc.cluster.local.", CNAME, "NoError CNAME example.com."),
            ("in.default.svc.cluster.local.", A, "NoError CNAME web.default.svc.cluster.local., A 10.43.0.7"),
            ("example.com.", A, "elsewhere"),
            ("notcluster.local.", A, "elsewhere"),
        ] {
            assert_eq!(ask(name, kind), expect, "{name} {kind}");
        }
    }
}
