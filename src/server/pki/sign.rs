//! Signing what others ask for: an X.509 certificate (RFC 5280) around a subject and a key that are copied byte by byte.
//!
//! `rcgen` makes this server's own certificates; it has room for one organization in a subject, and a subject of a request may have many.
//! So the certificate is written here: DER is tag, length, value.
//!
//! Follows upstream's `pkg/controller/certificates/{authority,signer}`.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rcgen::SigningKey;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::issue::Authority;

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const TRUE: &[u8] = &[0x01, 0x01, 0xff];
/// 2.5.29, whose next number names an extension.
const EXTENSION: [u8; 2] = [0x55, 0x1d];

/// A purpose, as a signing request names it: a bit of KeyUsage, or the OID of an extended one.
#[derive(Clone, Copy, Debug)]
pub enum Usage {
    /// Bit of KeyUsage, from the left.
    Bit(u8),
    /// Encoded OID of ExtendedKeyUsage.
    Extended(&'static [u8]),
}

/// Usages by name.
const USAGES: &[(&str, Usage)] = &[
    ("signing", Usage::Bit(0)),
    ("digital signature", Usage::Bit(0)),
    ("content commitment", Usage::Bit(1)),
    ("key encipherment", Usage::Bit(2)),
    ("data encipherment", Usage::Bit(3)),
    ("key agreement", Usage::Bit(4)),
    ("cert sign", Usage::Bit(5)),
    ("crl sign", Usage::Bit(6)),
    ("encipher only", Usage::Bit(7)),
    ("decipher only", Usage::Bit(8)),
    ("any", Usage::Extended(&[0x55, 0x1d, 0x25, 0x00])),
    ("server auth", Usage::Extended(&[0x2b, 6, 1, 5, 5, 7, 3, 1])),
    ("client auth", Usage::Extended(&[0x2b, 6, 1, 5, 5, 7, 3, 2])),
    ("code signing", Usage::Extended(&[0x2b, 6, 1, 5, 5, 7, 3, 3])),
    ("email protection", Usage::Extended(&[0x2b, 6, 1, 5, 5, 7, 3, 4])),
    ("s/mime", Usage::Extended(&[0x2b, 6, 1, 5, 5, 7, 3, 4])),
    ("ipsec end system", Usage::Extended(&[0x2b, 6, 1, 5, 5, 7, 3, 5])),
    ("ipsec tunnel", Usage::Extended(&[0x2b, 6, 1, 5, 5, 7, 3, 6])),
    ("ipsec user", Usage::Extended(&[0x2b, 6, 1, 5, 5, 7, 3, 7])),
    ("timestamping", Usage::Extended(&[0x2b, 6, 1, 5, 5, 7, 3, 8])),
    ("ocsp signing", Usage::Extended(&[0x2b, 6, 1, 5, 5, 7, 3, 9])),
    ("microsoft sgc", Usage::Extended(&[0x2b, 6, 1, 4, 1, 0x82, 0x37, 10, 3, 3])),
    ("netscape sgc", Usage::Extended(&[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 4, 1])),
];

/// What is to be signed.
#[derive(Clone, Debug)]
pub struct SignRequest<'a> {
    /// The subject, DER.
    pub subject_der: &'a [u8],
    /// The public key (SubjectPublicKeyInfo), DER.
    pub public_key_der: &'a [u8],
    /// Alternative names.
    pub dns_names: &'a [String],
    /// Alternative names.
    pub emails: &'a [String],
    /// Alternative names.
    pub ips: &'a [IpAddr],
    /// Alternative names.
    pub uris: &'a [String],
    /// By name, such as `client auth`.
    pub usages: &'a [String],
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until; cut to the end of the authority itself.
    pub not_after: Timestamp,
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=127 => out.push(short as u8),
        long => {
            let bytes = long.to_be_bytes();
            let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            out.push(0x80 | bytes.len() as u8);
            out.extend_from_slice(bytes);
        }
    }
    out.extend_from_slice(content);
    out
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, &parts.concat())
}

fn extension(id: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    let id = tlv(OID, &[EXTENSION[0], EXTENSION[1], id]);
    sequence(&[&id, if critical { TRUE } else { &[] }, &tlv(OCTETS, value)])
}

/// UTCTime until 2049, GeneralizedTime after.
fn time(at: Timestamp) -> Vec<u8> {
    let civil = at.to_zoned(TimeZone::UTC).datetime();
    if (1950..2050).contains(&civil.year()) {
        return tlv(0x17, civil.strftime("%y%m%d%H%M%SZ").to_string().as_bytes());
    }
    tlv(0x18, civil.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes())
}

/// A bit string of KeyUsage, without trailing zeros.
fn key_usage(usages: &[Usage]) -> Option<Vec<u8>> {
    let bits = usages.iter().fold(0u16, |bits, usage| match usage {
        Usage::Bit(bit) => bits | (0x8000 >> bit),
        Usage::Extended(_) => bits,
    });
    if bits == 0 {
        return None;
    }
    let (bytes, unused) = (bits.to_be_bytes(), bits.trailing_zeros() as u8);
    let content = if unused >= 8 { vec![unused - 8, bytes[0]] } else { vec![unused, bytes[0], bytes[1]] };
    Some(tlv(BITS, &content))
}

fn alternative_names(request: &SignRequest<'_>) -> Option<Vec<u8>> {
    let mut names = Vec::new();
    request.dns_names.iter().for_each(|name| names.push(tlv(0x82, name.as_bytes())));
    request.emails.iter().for_each(|name| names.push(tlv(0x81, name.as_bytes())));
    request.ips.iter().for_each(|ip| {
        names.push(match ip {
            IpAddr::V4(ip) => tlv(0x87, &ip.octets()),
            IpAddr::V6(ip) => tlv(0x87, &ip.octets()),
        });
    });
    request.uris.iter().for_each(|name| names.push(tlv(0x86, name.as_bytes())));
    (!names.is_empty()).then(|| tlv(SEQUENCE, &names.concat()))
}

/// The certificate, PEM.
pub(super) fn sign(authority: &Authority, request: &SignRequest<'_>) -> Result<String, String> {
    let key = authority.issuer.key();
    let algorithm = algorithm(key.algorithm()).ok_or("the authority's key is of a sort that can't sign requests")?;
    let ca = CertificateDer::from_pem_slice(authority.identity.cert_pem.as_bytes()).map_err(|error| error.to_string())?;
    let (_, ca) = X509Certificate::from_der(&ca).map_err(|error| error.to_string())?;
    let end = Timestamp::from_second(ca.validity().not_after.timestamp()).map_err(|error| error.to_string())?;
    if end <= request.not_before {
        return Err(format!("the signer has expired: NotAfter={end}"));
    }
    let mut serial = [0u8; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| "no random bytes".to_owned())?;
    // Positive, and of full length.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    let mut usages = Vec::new();
    for name in request.usages {
        let known = USAGES.iter().find(|(known, _)| known == name).map(|(_, usage)| *usage);
        usages.push(known.ok_or_else(|| format!("unrecognized key usage: {name:?}"))?);
    }
    let mut extensions = Vec::new();
    extensions.extend(key_usage(&usages).map(|bits| extension(15, true, &bits)));
    let mut extended: Vec<Vec<u8>> = usages
        .iter()
        .filter_map(|usage| match usage {
            Usage::Extended(oid) => Some(tlv(OID, oid)),
            Usage::Bit(_) => None,
        })
        .collect();
    extended.dedup();
    if !extended.is_empty() {
        extensions.push(extension(37, false, &tlv(SEQUENCE, &extended.concat())));
    }
    extensions.push(extension(19, true, &tlv(SEQUENCE, &[])));
    extensions.push(extension(35, false, &tlv(SEQUENCE, &tlv(0x80, &authority.key_id))));
    // An empty subject (two bytes) makes the names all that there is.
    extensions.extend(alternative_names(request).map(|names| extension(17, request.subject_der.len() <= 2, &names)));
    let to_be_signed = sequence(&[
        &tlv(0xa0, &tlv(0x02, &[2])),
        &tlv(0x02, &serial),
        &algorithm,
        ca.subject().as_raw(),
        &sequence(&[&time(request.not_before), &time(request.not_after.min(end))]),
        request.subject_der,
        request.public_key_der,
        &tlv(0xa3, &tlv(SEQUENCE, &extensions.concat())),
    ]);
    let signature = key.sign(&to_be_signed).map_err(|error| error.to_string())?;
    let der = sequence(&[&to_be_signed, &algorithm, &tlv(BITS, &[&[0], signature.as_slice()].concat())]);
    let encoded = STANDARD.encode(der);
    let lines: Vec<&str> = encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
    Ok(format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n")))
}

/// The AlgorithmIdentifier of signatures by such a key.
fn algorithm(key: &'static rcgen::SignatureAlgorithm) -> Option<Vec<u8>> {
    let table: [(&rcgen::SignatureAlgorithm, &[u8], bool); 4] = [
        (&rcgen::PKCS_ECDSA_P256_SHA256, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], false),
        (&rcgen::PKCS_ECDSA_P384_SHA384, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3], false),
        (&rcgen::PKCS_ED25519, &[0x2b, 0x65, 0x70], false),
        (&rcgen::PKCS_RSA_SHA256, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11], true),
    ];
    let (_, oid, null) = table.into_iter().find(|(known, ..)| *known == key)?;
    Some(sequence(&[&tlv(OID, oid), if null { &[0x05, 0x00] } else { &[] }]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::csr::Csr;

    #[test]
    fn what_was_asked_for_is_signed() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(&dir.path().join("ca.pem"), "ca").unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.b".into(), "192.0.2.1".into()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "ann");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "one");
        params.distinguished_name.push(rcgen::DnType::CustomDnType(vec![2, 5, 4, 10]), "two");
        let key = rcgen::KeyPair::generate().unwrap();
        let csr = Csr::parse(params.serialize_request(&key).unwrap().pem().unwrap().as_bytes()).unwrap();
        assert_eq!(csr.organizations, ["one", "two"]);
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        let usages = ["digital signature", "key encipherment", "client auth"].map(String::from);
        let mut request = SignRequest {
            subject_der: &csr.subject_der,
            public_key_der: &csr.public_key_der,
            dns_names: &csr.dns_names,
            emails: &csr.emails,
            ips: &csr.ips,
            uris: &csr.uris,
            usages: &usages,
            not_before: now,
            not_after: now + jiff::SignedDuration::from_hours(1),
        };
        let pem = sign(&authority, &request).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (rest, cert) = X509Certificate::from_der(&der).unwrap();
        assert!(rest.is_empty());
        assert_eq!(cert.subject().to_string(), "CN=ann, O=one, O=two");
        assert_eq!(cert.validity().not_after.timestamp() - cert.validity().not_before.timestamp(), 3600);
        let usage = cert.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
        assert!(cert.extended_key_usage().unwrap().unwrap().value.client_auth && !cert.is_ca());
        assert_eq!(cert.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 2);
        // TLS itself accepts it as a client's.
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.identity.cert_pem.as_bytes()).unwrap()).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), super::super::provider()).build().unwrap();
        verifier.verify_client_cert(&der, &[], rustls::pki_types::UnixTime::now()).unwrap();
        // Nothing outlives the authority.
        request.not_after = now + jiff::SignedDuration::from_hours(24 * 365 * 30);
        let pem = sign(&authority, &request).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (_, cert) = X509Certificate::from_der(&der).unwrap();
        assert!(cert.validity().not_after.timestamp() < request.not_after.as_second());
        let strange = ["flying".to_owned()];
        request.usages = &strange;
        assert_eq!(sign(&authority, &request).unwrap_err(), "unrecognized key usage: \"flying\"");
    }

    #[test]
    fn bits_and_lengths() {
        assert_eq!(key_usage(&[Usage::Bit(0)]), Some(vec![3, 2, 7, 0x80]));
        assert_eq!(key_usage(&[Usage::Bit(0), Usage::Bit(2)]), Some(vec![3, 2, 5, 0xa0]));
        assert_eq!(key_usage(&[Usage::Bit(8)]), Some(vec![3, 3, 7, 0, 0x80]));
        assert_eq!(key_usage(&[]), None);
        assert_eq!(tlv(4, &[0; 200])[..3], [4, 0x81, 200]);
        assert_eq!(tlv(4, &[0; 300])[..4], [4, 0x82, 1, 44]);
    }
}
