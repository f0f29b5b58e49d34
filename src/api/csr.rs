//! Certificate signing requests (PKCS#10, RFC 2986) as data.
//!
//! Follows upstream's `pkg/apis/certificates/helpers.go`. Never: believes a request whose own signature is wrong.

use std::net::IpAddr;

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// Largest request that is looked at, in PEM.
const MAX_REQUEST: usize = 64 * 1024;

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Csr {
    /// The subject, DER, to be copied into the certificate as it is.
    pub subject_der: Vec<u8>,
    /// The public key (SubjectPublicKeyInfo), DER.
    pub public_key_der: Vec<u8>,
    /// CN; empty without one.
    pub common_name: String,
    /// O, in the order of the subject.
    pub organizations: Vec<String>,
    /// Alternative names.
    pub dns_names: Vec<String>,
    /// Alternative names.
    pub emails: Vec<String>,
    /// Alternative names.
    pub ips: Vec<IpAddr>,
    /// Alternative names.
    pub uris: Vec<String>,
}

impl Csr {
    /// Reads PEM. The error is in upstream's words where it has any.
    pub fn parse(pem: &[u8]) -> Result<Csr, String> {
        if pem.len() > MAX_REQUEST {
            return Err(format!("a request may have at most {MAX_REQUEST} bytes"));
        }
        let wrong = || "PEM block type must be CERTIFICATE REQUEST".to_owned();
        let (_, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|_| wrong())?;
        if block.label != "CERTIFICATE REQUEST" {
            return Err(wrong());
        }
        let (rest, request) = X509CertificationRequest::from_der(&block.contents).map_err(|error| format!("asn1: {error}"))?;
        if !rest.is_empty() {
            return Err("asn1: syntax error: trailing data".into());
        }
        request.verify_signature().map_err(|_| "x509: the signature of the request is wrong".to_owned())?;
        let info = &request.certification_request_info;
        let text = |part: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            part.as_str().map(str::to_owned).map_err(|_| "x509: the subject has a part that is no text".to_owned())
        };
        let mut csr = Csr {
            subject_der: info.subject.as_raw().to_vec(),
            public_key_der: info.subject_pki.raw.to_vec(),
            common_name: info.subject.iter_common_name().last().map(text).transpose()?.unwrap_or_default(),
            organizations: info.subject.iter_organization().map(text).collect::<Result<_, _>>()?,
            ..Csr::default()
        };
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                names.general_names.iter().try_for_each(|name| csr.add_name(name))?;
            }
        }
        Ok(csr)
    }

    /// Identifies the key: SHA-256 of its public half, hexadecimal.
    pub fn key_hash(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.public_key_der);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn add_name(&mut self, name: &GeneralName<'_>) -> Result<(), String> {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).into()),
            GeneralName::RFC822Name(name) => self.emails.push((*name).into()),
            GeneralName::URI(name) => self.uris.push((*name).into()),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let ip = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                self.ips.push(ip.map_err(|_| format!("x509: cannot parse IP address of length {}", bytes.len()))?);
            }
            // Names of other sorts are not asked for, as far as Go can see.
            _ => {}
        }
        Ok(())
    }

    /// Whether this is a node's client certificate, and if not, why.
    pub fn check_kubelet_client(&self, usages: &[String]) -> Result<(), String> {
        self.check_node()?;
        if !self.dns_names.is_empty() {
            return Err("DNS subjectAltNames are not allowed".into());
        }
        self.no_emails()?;
        if !self.ips.is_empty() {
            return Err("IP subjectAltNames are not allowed".into());
        }
        self.no_uris()?;
        self.named_as_node()?;
        exact_usages(usages, "client auth")
    }

    /// Whether this is a node's serving certificate, and if not, why.
    pub fn check_kubelet_serving(&self, usages: &[String]) -> Result<(), String> {
        self.check_node()?;
        if self.dns_names.is_empty() && self.ips.is_empty() {
            return Err("DNS or IP subjectAltName is required".into());
        }
        self.no_emails()?;
        self.no_uris()?;
        exact_usages(usages, "server auth")?;
        self.named_as_node()
    }

    fn check_node(&self) -> Result<(), String> {
        if self.organizations == ["system:nodes"] { Ok(()) } else { Err("subject organization is not system:nodes".into()) }
    }

    fn no_emails(&self) -> Result<(), String> {
        if self.emails.is_empty() { Ok(()) } else { Err("Email subjectAltNames are not allowed".into()) }
    }

    fn no_uris(&self) -> Result<(), String> {
        if self.uris.is_empty() { Ok(()) } else { Err("URI subjectAltNames are not allowed".into()) }
    }

    fn named_as_node(&self) -> Result<(), String> {
        match self.common_name.starts_with("system:node:") {
            true => Ok(()),
            false => Err("subject common name does not begin with system:node: ".trim_end().into()),
        }
    }
}

/// `digital signature`, this purpose, and perhaps `key encipherment`; nothing else.
fn exact_usages(usages: &[String], purpose: &str) -> Result<(), String> {
    let mut sorted: Vec<&str> = usages.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let (short, long) = (["digital signature", purpose], ["digital signature", "key encipherment", purpose]);
    let matches = |wanted: &[&str]| {
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        wanted == sorted
    };
    if matches(&short) || matches(&long) {
        return Ok(());
    }
    let mut shown = long.to_vec();
    shown.sort_unstable();
    Err(format!("usages did not match [{}]", shown.join(" ")))
}

/// The usages of an API client's certificate: upstream's `validAPIServerClientUsages`.
pub fn check_client_usages(usages: &[String]) -> Result<(), String> {
    for usage in usages {
        if !["digital signature", "key encipherment", "client auth"].contains(&usage.as_str()) {
            return Err(format!("invalid usage for client certificate: {usage}"));
        }
    }
    match usages.iter().any(|usage| usage == "client auth") {
        true => Ok(()),
        false => Err("missing required usage for client certificate: client auth".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(cn: &str, organization: &str, names: &[&str]) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, cn);
        params.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
        params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap().into_bytes()
    }

    #[test]
    fn requests_are_read() {
        let csr = Csr::parse(&request("system:node:n1", "system:nodes", &["n1.example", "192.0.2.1"])).unwrap();
        assert_eq!((csr.common_name.as_str(), csr.organizations.as_slice()), ("system:node:n1", &["system:nodes".to_owned()][..]));
        assert_eq!((csr.dns_names.as_slice(), csr.ips.as_slice()), (&["n1.example".to_owned()][..], &[IpAddr::from([192, 0, 2, 1])][..]));
        for bad in ["", "junk", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(Csr::parse(bad.as_bytes()).unwrap_err(), "PEM block type must be CERTIFICATE REQUEST", "{bad}");
        }
        let forged = String::from_utf8(request("a", "b", &[])).unwrap();
        let mut der = x509_parser::pem::parse_x509_pem(forged.as_bytes()).unwrap().1.contents;
        let at = der.windows(1).position(|w| w == b"a").unwrap();
        der[at] = b'c';
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{encoded}\n-----END CERTIFICATE REQUEST-----\n");
        assert!(Csr::parse(pem.as_bytes()).is_err());
        assert!(Csr::parse(&vec![b'-'; MAX_REQUEST + 1]).is_err());
    }

    #[test]
    fn nodes_ask_for_what_nodes_may_have() {
        let usages = |list: &[&str]| list.iter().map(|u| u.to_string()).collect::<Vec<_>>();
        let client = usages(&["digital signature", "client auth"]);
        let serving = usages(&["server auth", "key encipherment", "digital signature"]);
        let parse = |cn: &str, organization: &str, names: &[&str]| Csr::parse(&request(cn, organization, names)).unwrap();
        let node = parse("system:node:a", "system:nodes", &[]);
        assert_eq!(node.check_kubelet_client(&client), Ok(()));
        assert_eq!(
            node.check_kubelet_client(&serving).unwrap_err(),
            "usages did not match [client auth digital signature key encipherment]"
        );
        assert_eq!(node.check_kubelet_serving(&serving).unwrap_err(), "DNS or IP subjectAltName is required");
        assert_eq!(parse("system:node:a", "x", &[]).check_kubelet_client(&client).unwrap_err(), "subject organization is not system:nodes");
        assert!(parse("a", "system:nodes", &[]).check_kubelet_client(&client).unwrap_err().contains("does not begin with system:node:"));
        let named = parse("system:node:a", "system:nodes", &["a.b"]);
        assert_eq!(named.check_kubelet_client(&client).unwrap_err(), "DNS subjectAltNames are not allowed");
        assert_eq!(named.check_kubelet_serving(&serving), Ok(()));
        assert!(check_client_usages(&client).is_ok());
        assert_eq!(check_client_usages(&serving).unwrap_err(), "invalid usage for client certificate: server auth");
        assert_eq!(check_client_usages(&[]).unwrap_err(), "missing required usage for client certificate: client auth");
    }
}
