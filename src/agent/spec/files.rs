//! The text of /etc/hosts, /etc/hostname and /etc/resolv.conf in a pod. Pure. Follows pkg/kubelet/network/dns/dns.go and
//! `managedHostsFileContent` (pkg/kubelet/kubelet_pods.go).
use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::Pod;

/// Host name of the pod, at most 63 bytes.
pub fn hostname(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let name = spec.and_then(|s| s.hostname.clone()).filter(|h| !h.is_empty()).or(pod.metadata.name.clone()).unwrap_or_default();
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// Fully qualified name, for a pod with a subdomain.
fn fqdn(pod: &Pod, domain: &str) -> Option<String> {
    let subdomain = pod.spec.as_ref()?.subdomain.as_deref().filter(|s| !s.is_empty())?;
    Some(format!("{}.{subdomain}.{}.svc.{domain}", hostname(pod), pod.metadata.namespace.as_deref().unwrap_or_default()))
}

/// /etc/hosts. With host network, the node's own file comes first.
pub fn hosts(pod: &Pod, ip: Option<IpAddr>, domain: &str, node_hosts: Option<&str>) -> String {
    let mut text = String::new();
    match node_hosts {
        Some(own) => {
            text.push_str("# Kubernetes-managed hosts file (host network).\n");
            text.push_str(own);
            if !own.ends_with('\n') {
                text.push('\n');
            }
        }
        None => {
            text.push_str("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
            text.push_str("fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n");
            if let Some(ip) = ip {
                match fqdn(pod, domain) {
                    Some(fqdn) => text.push_str(&format!("{ip}\t{fqdn}\t{}\n", hostname(pod))),
                    None => text.push_str(&format!("{ip}\t{}\n", hostname(pod))),
                }
            }
        }
    }
    let aliases = pod.spec.iter().flat_map(|s| s.host_aliases.iter().flatten()).collect::<Vec<_>>();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.clone().unwrap_or_default().join("\t")));
    }
    text
}

#[derive(Default)]
struct Resolver {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

fn parse(text: &str) -> Resolver {
    let mut resolver = Resolver::default();
    for line in text.lines() {
        let mut words = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
        match words.next() {
            Some("nameserver") => resolver.servers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => {
                resolver.searches = words.map(|w| if w == "." { w } else { w.trim_end_matches('.') }.to_owned()).collect()
            }
            Some("options") => resolver.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    resolver
}

/// /etc/resolv.conf after the pod's dnsPolicy and dnsConfig. `node` is the node's own file.
pub fn resolv_conf(pod: &Pod, cluster_dns: Ipv4Addr, domain: &str, node: &str) -> String {
    let spec = pod.spec.as_ref();
    let host_network = spec.and_then(|s| s.host_network) == Some(true);
    let policy = match spec.and_then(|s| s.dns_policy.as_deref()).unwrap_or("ClusterFirst") {
        "ClusterFirst" if host_network => "Default",
        other => other,
    };
    let mut resolver = match policy {
        "None" => Resolver::default(),
        "Default" => parse(node),
        _ => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
            searches.extend(parse(node).searches);
            Resolver { servers: vec![cluster_dns.to_string()], searches, options: vec!["ndots:5".into()] }
        }
    };
    if let Some(config) = spec.and_then(|s| s.dns_config.as_ref()) {
        resolver.servers.extend(config.nameservers.clone().unwrap_or_default());
        resolver.searches.extend(config.searches.clone().unwrap_or_default());
        for option in config.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            resolver.options.retain(|o| o.split(':').next() != Some(&name));
            resolver.options.push(option.value.as_ref().map_or(name.clone(), |value| format!("{name}:{value}")));
        }
    }
    let unique = |list: Vec<String>| {
        let mut out: Vec<String> = Vec::new();
        list.into_iter().for_each(|item| {
            if !out.contains(&item) {
                out.push(item)
            }
        });
        out
    };
    let mut text = String::new();
    let searches = unique(resolver.searches);
    if !searches.is_empty() {
        text.push_str(&format!("search {}\n", searches.into_iter().take(32).collect::<Vec<_>>().join(" ")));
    }
    for server in unique(resolver.servers).into_iter().take(3) {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !resolver.options.is_empty() {
        text.push_str(&format!("options {}\n", resolver.options.join(" ")));
    }
    text
}
