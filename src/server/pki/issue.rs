//! Making certificates: the CA, its leaves, and when they are due again.

use std::path::Path;

use jiff::{Span, Timestamp, ToSpan, tz::TimeZone};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use super::{Identity, PkiError};
use crate::files;

const LEAF_DAYS: i64 = 365;
const CA_DAYS: i64 = 3650;
/// Leaves are renewed this long before their end.
const LEAF_MARGIN_DAYS: i64 = 90;
/// The CA is renewed before any leaf that it signs could outlive it.
const CA_MARGIN_DAYS: i64 = LEAF_DAYS + LEAF_MARGIN_DAYS;

/// Which side of a connection a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Client,
    Server,
}

/// What a leaf says.
pub(super) struct Request {
    pub common_name: String,
    pub organization: Option<String>,
    /// Names and addresses, sorted.
    pub names: Vec<String>,
    pub purpose: Purpose,
}

/// The CA, able to sign.
pub(super) struct Authority {
    pub identity: Identity,
    pub(super) issuer: Issuer<'static, KeyPair>,
    /// Identifies its key: a leaf that names another authority is of no use.
    pub(super) key_id: Vec<u8>,
}

impl Authority {
    /// The authority at `path`, made under this name when there is none.
    pub(super) fn open(path: &Path, name: &str) -> Result<Authority, PkiError> {
        let damaged = |error: rcgen::Error| PkiError::Damaged { path: path.into(), what: error.to_string() };
        let identity = match load(path)? {
            None => Self::make(path, name, generate(name)?)?,
            Some(old) if Facts::of(&old, path)?.days_left < CA_MARGIN_DAYS => {
                tracing::info!(path = %path.display(), "renewing an authority, keeping its key");
                Self::make(path, name, KeyPair::from_pem(&old.key_pem).map_err(damaged)?)?
            }
            Some(good) => good,
        };
        let key_id = Facts::of(&identity, path)?.key_id;
        let key = KeyPair::from_pem(&identity.key_pem).map_err(damaged)?;
        let issuer = Issuer::from_ca_cert_pem(&identity.cert_pem, key).map_err(damaged)?;
        Ok(Authority { identity, issuer, key_id })
    }

    fn make(path: &Path, subject: &str, key: KeyPair) -> Result<Identity, PkiError> {
        let mut params = params(subject, &[], CA_DAYS)?;
        params.distinguished_name.push(DnType::CommonName, subject);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let cert = params.self_signed(&key).map_err(|source| PkiError::Issue { subject: subject.into(), source })?;
        store(path, Identity { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }

    /// The leaf at `path` while it says what `request` says and is not due, else a new one.
    pub(super) fn leaf(&self, path: &Path, request: &Request) -> Result<Identity, PkiError> {
        if let Some(identity) = load(path)? {
            let facts = Facts::of(&identity, path)?;
            let ours = facts.authority_key_id == self.key_id && facts.common_name == request.common_name;
            if ours && facts.names == request.names && facts.days_left >= LEAF_MARGIN_DAYS {
                return Ok(identity);
            }
        }
        let issue = |source| PkiError::Issue { subject: request.common_name.clone(), source };
        let mut params = params(&request.common_name, &request.names, LEAF_DAYS)?;
        params.distinguished_name.push(DnType::CommonName, request.common_name.as_str());
        if let Some(organization) = &request.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![match request.purpose {
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        let key = generate(&request.common_name)?;
        let cert = params.signed_by(&key, &self.issuer).map_err(issue)?;
        store(path, Identity { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }
}

/// When the leaf in `path` is due (Unix time).
pub(super) fn due(identity: &Identity, path: &Path) -> Result<i64, PkiError> {
    Ok(Timestamp::now().as_second() + (Facts::of(identity, path)?.days_left - LEAF_MARGIN_DAYS + 1) * 86_400)
}

/// The key at `path`, made when there is none.
pub(super) fn signing_key(path: &Path) -> Result<String, PkiError> {
    if let Some(pem) = files::read(path)? {
        KeyPair::from_pem(&pem).map_err(|e| PkiError::Damaged { path: path.into(), what: e.to_string() })?;
        return Ok(pem);
    }
    let pem = generate("the service account key")?.serialize_pem();
    files::write_private(path, pem.as_bytes())?;
    Ok(pem)
}

fn generate(subject: &str) -> Result<KeyPair, PkiError> {
    KeyPair::generate().map_err(|source| PkiError::Issue { subject: subject.into(), source })
}

fn params(subject: &str, names: &[String], days: i64) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(names).map_err(|source| PkiError::Issue { subject: subject.into(), source })?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    // From yesterday: hosts of one cluster may disagree a little about the time.
    let (year, month, date) = day((-1).days());
    params.not_before = rcgen::date_time_ymd(year, month, date);
    let (year, month, date) = day(days.days());
    params.not_after = rcgen::date_time_ymd(year, month, date);
    Ok(params)
}

fn day(from_now: Span) -> (i32, u8, u8) {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let date = today.saturating_add(from_now);
    let [month, day] = [date.month(), date.day()].map(|n| u8::try_from(n).expect("months and days are small and positive"));
    (date.year().into(), month, day)
}

fn store(path: &Path, identity: Identity) -> Result<Identity, PkiError> {
    files::write_private(path, format!("{}{}", identity.cert_pem, identity.key_pem).as_bytes())?;
    Ok(identity)
}

fn load(path: &Path) -> Result<Option<Identity>, PkiError> {
    let Some(text) = files::read(path)? else { return Ok(None) };
    let split = text.find("-----BEGIN PRIVATE KEY-----").filter(|at| *at > 0);
    let Some(split) = split else {
        return Err(PkiError::Damaged { path: path.into(), what: "no certificate followed by a key".into() });
    };
    let (cert, key) = text.split_at(split);
    Ok(Some(Identity { cert_pem: cert.into(), key_pem: key.into() }))
}

/// What an issued certificate says.
struct Facts {
    common_name: String,
    names: Vec<String>,
    days_left: i64,
    key_id: Vec<u8>,
    authority_key_id: Vec<u8>,
}

impl Facts {
    fn of(identity: &Identity, path: &Path) -> Result<Facts, PkiError> {
        let damaged = |what: String| PkiError::Damaged { path: path.into(), what };
        let der = CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).map_err(|e| damaged(e.to_string()))?;
        let (_, cert) = X509Certificate::from_der(&der).map_err(|e| damaged(e.to_string()))?;
        let common_name = cert.subject().iter_common_name().next().and_then(|cn| cn.as_str().ok()).unwrap_or_default().to_owned();
        let (mut names, mut key_id, mut authority_key_id) = (Vec::new(), Vec::new(), Vec::new());
        for extension in cert.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(all) => names.extend(all.general_names.iter().filter_map(shown)),
                ParsedExtension::SubjectKeyIdentifier(id) => key_id = id.0.to_vec(),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec()).unwrap_or_default();
                }
                _ => {}
            }
        }
        names.sort();
        let seconds = cert.validity().not_after.timestamp() - Timestamp::now().as_second();
        Ok(Facts { common_name, names, days_left: seconds / 86_400, key_id, authority_key_id })
    }
}

fn shown(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| std::net::IpAddr::from(b).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| std::net::IpAddr::from(b).to_string()),
        },
        _ => None,
    }
}
