//! NetworkPolicy: which pods may talk to which.

use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::support::path::{Errors, Path};
use super::support::{print, rules};
use crate::api::{FieldError, names};

const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];

kind!(NetworkPolicy: NAMESPACED { singular: "networkpolicy", short: &["netpol"] }
    fn apply_defaults(&mut self) {
        let Some(spec) = &mut self.spec else { return };
        let ingress = spec.ingress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut().flatten());
        ingress.for_each(|port| { port.protocol.get_or_insert_with(|| "TCP".into()); });
        let egress = spec.egress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut().flatten());
        egress.for_each(|port| { port.protocol.get_or_insert_with(|| "TCP".into()); });
        if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
            let types = spec.policy_types.insert(vec!["Ingress".into()]);
            if spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()) {
                types.push("Egress".into());
            }
        }
    }
    fn validate(&self, _old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), rules::part(&self.spec));
        rules::label_selector(&mut errors, &path.at("podSelector"), spec.pod_selector.as_ref());
        for (index, rule) in spec.ingress.iter().flatten().enumerate() {
            let path = path.at("ingress").index(index);
            check_ports(&mut errors, &path, rule.ports.as_deref());
            check_peers(&mut errors, &path.at("from"), rule.from.as_deref());
        }
        for (index, rule) in spec.egress.iter().flatten().enumerate() {
            let path = path.at("egress").index(index);
            check_ports(&mut errors, &path, rule.ports.as_deref());
            check_peers(&mut errors, &path.at("to"), rule.to.as_deref());
        }
        let types = spec.policy_types.as_deref().unwrap_or_default();
        if types.len() > 2 {
            errors.push(FieldError::invalid(path.at("policyTypes"), types, "may not specify more than two policyTypes"));
            return errors;
        }
        for (index, one) in types.iter().enumerate() {
            rules::one_of_listed(&mut errors, &path.at("policyTypes").index(index), one, &["Ingress", "Egress"]);
        }
        errors
    }
    columns!(NetworkPolicy;
        "Pod-Selector" string: "The pods it is about." =>
            |policy, _| print::text(print::selector(rules::part(&policy.spec).pod_selector.as_ref())),
        "Age" string: "Time since creation." => print::age);
);

fn check_ports(errors: &mut Errors, path: &Path, ports: Option<&[NetworkPolicyPort]>) {
    for (index, port) in ports.into_iter().flatten().enumerate() {
        let path = path.at("ports").index(index);
        if let Some(protocol) = &port.protocol {
            rules::one_of_listed(errors, &path.at("protocol"), protocol, PROTOCOLS);
        }
        match &port.port {
            Some(IntOrString::Int(number)) => {
                rules::port_number(errors, &path.at("port"), *number);
                if let Some(end) = port.end_port {
                    if end < *number {
                        errors.push(FieldError::invalid(path.at("endPort"), end, "must be greater than or equal to `port`"));
                    }
                    rules::port_number(errors, &path.at("endPort"), end);
                }
            }
            Some(IntOrString::String(name)) => {
                rules::syntax(errors, &path.at("port"), name, names::port_name);
                if let Some(end) = port.end_port {
                    errors.push(FieldError::invalid(path.at("endPort"), end, "may not be specified when `port` is non-numeric"));
                }
            }
            None => {
                if let Some(end) = port.end_port {
                    errors.push(FieldError::invalid(path.at("endPort"), end, "may not be specified when `port` is not specified"));
                }
            }
        }
    }
}

fn check_peers(errors: &mut Errors, path: &Path, peers: Option<&[NetworkPolicyPeer]>) {
    for (index, peer) in peers.into_iter().flatten().enumerate() {
        let path = path.index(index);
        let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        rules::label_selector(errors, &path.at("podSelector"), peer.pod_selector.as_ref());
        rules::label_selector(errors, &path.at("namespaceSelector"), peer.namespace_selector.as_ref());
        match &peer.ip_block {
            None if !selects => errors.push(FieldError::required(&path, "must specify a peer")),
            None => {}
            Some(block) => {
                check_block(errors, &path.at("ipBlock"), block);
                if selects {
                    errors.push(FieldError::forbidden(&path, "may not specify both ipBlock and another peer"));
                }
            }
        }
    }
}

fn check_block(errors: &mut Errors, path: &Path, block: &IPBlock) {
    rules::required_syntax(errors, &path.at("cidr"), &block.cidr, names::cidr);
    let Ok(whole) = block.cidr.parse::<ipnet::IpNet>() else { return };
    for (index, except) in block.except.iter().flatten().enumerate() {
        let path = path.at("except").index(index);
        rules::syntax(errors, &path, except, names::cidr);
        let Ok(part) = except.parse::<ipnet::IpNet>() else { continue };
        if !whole.contains(&part) || whole.prefix_len() >= part.prefix_len() {
            errors.push(FieldError::invalid(&path, except, "must be a strict subset of `cidr`"));
        }
    }
}
