//! Who a node is: certificates with their keys, made here and kept in files of their own.
//!
//! Invariants: a key never leaves this machine; a certificate and its key are one file, so that a crash can't part them.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::JoinError;
use crate::files;

const KEY_BEGINS: &str = "-----BEGIN PRIVATE KEY-----";
/// The part of its life after which a certificate is renewed, and how much later it may be: a cluster's nodes, all made at once, should not
/// all ask at once. As upstream's `kubelet/certificate/certificate_manager.go`.
const RENEWED_AFTER: f64 = 0.7;
const SPREAD: f64 = 0.2;

/// A certificate and its key, PEM, with what it says. `Debug` shows no key.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub cert_pem: String,
    /// The key, PKCS#8.
    pub key_pem: String,
    /// Subject's CN.
    pub common_name: String,
    /// Names and addresses that it is for, sorted.
    pub names: Vec<String>,
    /// From when.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// Identifies the key: SHA-256 of its public half, hexadecimal.
    pub key_hash: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({}, until {})", self.common_name, self.not_after)
    }
}

impl Identity {
    /// Reads a certificate followed by its key.
    pub fn parse(text: &str) -> Result<Identity, String> {
        let at = text.find(KEY_BEGINS).filter(|at| *at > 0).ok_or("no certificate followed by a key")?;
        let (cert_pem, key_pem) = text.split_at(at);
        let der = CertificateDer::from_pem_slice(cert_pem.as_bytes()).map_err(|error| error.to_string())?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
        let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).map_err(|error| error.to_string());
        let names = certificate.subject_alternative_name().ok().flatten();
        let mut names: Vec<String> = names.iter().flat_map(|names| &names.value.general_names).filter_map(shown).collect();
        names.sort();
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate.public_key().raw);
        Ok(Identity {
            common_name: certificate.subject().iter_common_name().next().and_then(|cn| cn.as_str().ok()).unwrap_or_default().into(),
            names,
            not_before: time(certificate.validity().not_before)?,
            not_after: time(certificate.validity().not_after)?,
            key_hash: digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
            cert_pem: cert_pem.into(),
            key_pem: key_pem.into(),
        })
    }

    /// From a file; `None` when there is none.
    pub fn load(path: &Path) -> Result<Option<Identity>, JoinError> {
        let Some(text) = files::read(path)? else { return Ok(None) };
        Identity::parse(&text).map(Some).map_err(|what| JoinError::Damaged { path: path.into(), what })
    }

    /// Into a file.
    pub fn store(&self, path: &Path) -> Result<(), JoinError> {
        Ok(files::write_private(path, format!("{}{}", self.cert_pem, self.key_pem).as_bytes())?)
    }

    /// When to ask for the next one. `chance` is from 0 to 1.
    pub fn renewal(&self, chance: f64) -> Timestamp {
        let life = self.not_after.duration_since(self.not_before);
        self.not_before + life.mul_f64(RENEWED_AFTER + SPREAD * chance)
    }
}

fn shown(name: &GeneralName<'_>) -> Option<String> {
    let address = |bytes: &[u8]| {
        let v4 = <[u8; 4]>::try_from(bytes).map(std::net::IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(std::net::IpAddr::from)).ok()
    };
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|ip| ip.to_string()),
        _ => None,
    }
}

/// A key, and the request that it be certified as node `node`'s for `names`. PEM both. The key is `key`, or a new one.
pub fn request(node: &str, names: &[String], key: Option<&str>) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    let key = key.map_or_else(KeyPair::generate, KeyPair::from_pem)?;
    let request = params.serialize_request(&key)?.pem()?;
    Ok((key.serialize_pem(), request))
}

/// Where a node keeps what it is, below its data directory.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it.
    pub fn open(data_dir: &Path) -> Result<Folder, JoinError> {
        let dir = data_dir.join("agent");
        files::make_private_dir(&dir)?;
        Ok(Folder(dir))
    }
    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }
    /// The cluster's authority.
    pub fn authority(&self) -> PathBuf {
        self.0.join("ca.pem")
    }
    /// Shown to the API.
    pub fn client(&self) -> PathBuf {
        self.0.join("client.pem")
    }
    /// Shown to who calls this node.
    pub fn serving(&self) -> PathBuf {
        self.0.join("serving.pem")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn identity(names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "system:node:a");
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 11);
        let cert = params.self_signed(&key).unwrap();
        Identity::parse(&format!("{}{}", cert.pem(), key.serialize_pem())).unwrap()
    }

    #[test]
    fn a_file_says_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent/client.pem");
        assert!(Identity::load(&path).unwrap().is_none());
        let made = identity(&["b.example", "192.0.2.1"]);
        made.store(&path).unwrap();
        let read = Identity::load(&path).unwrap().unwrap();
        assert_eq!(read.names, ["192.0.2.1", "b.example"]);
        assert_eq!((read.key_pem, read.key_hash.len()), (made.key_pem.clone(), 64));
        assert!(!format!("{made:?}").contains("PRIVATE"));
        std::fs::write(&path, "nonsense").unwrap();
        assert!(Identity::load(&path).unwrap_err().to_string().contains("client.pem is damaged"));
    }

    #[test]
    fn renewed_well_before_the_end() {
        let identity = identity(&[]);
        let at = |day: &str| day.parse::<Timestamp>().unwrap();
        assert_eq!(identity.renewal(0.0), at("2026-01-08T00:00:00Z"));
        assert_eq!(identity.renewal(1.0), at("2026-01-10T00:00:00Z"));
    }

    #[test]
    fn requests_name_the_node() {
        let (key, request) = request("n", &["n".into(), "192.0.2.1".into()], None).unwrap();
        let csr = crate::api::csr::Csr::parse(request.as_bytes()).unwrap();
        assert!(key.starts_with(KEY_BEGINS));
        assert_eq!((csr.common_name.as_str(), csr.organizations[0].as_str()), ("system:node:n", "system:nodes"));
        let (same, again) = super::request("n", &[], Some(&key)).unwrap();
        let again = crate::api::csr::Csr::parse(again.as_bytes()).unwrap();
        assert!(same == key && again.key_hash() == csr.key_hash());
        assert_eq!((csr.dns_names, csr.ips), (vec!["n".to_owned()], vec![[192, 0, 2, 1].into()]));
    }
}
