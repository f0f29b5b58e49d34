//! The parts of joining that need no cluster; the whole of it is in `tests/e2e`.

use super::*;

/// A client certificate of node `node`, until `until` (year).
fn client(node: &str, until: i32) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("system:node:{node}"));
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    format!("{}{}", certificate.pem(), key.serialize_pem())
}

fn authority() -> (String, AuthorityHash) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["ca".into()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), AuthorityHash::of(certificate.der()).unwrap())
}

fn config(dir: &std::path::Path, entry: Entry) -> JoinConfig {
    JoinConfig { url: "https://192.0.2.1:6443/".parse().unwrap(), node_name: "a".into(), data_dir: dir.into(), entry }
}

#[tokio::test]
async fn without_a_certificate_a_token_is_needed() {
    let (pem, hash) = authority();
    for (held, want) in [
        (None, "this machine is no node yet"),
        (Some(client("a", 2020)), "expired at 2020-01-01T00:00:00Z"),
        (Some(client("b", 4000)), "has the certificate of system:node:b, and is now called a"),
        (Some("junk".into()), "client.pem is damaged"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        files::write_private(&folder.authority(), pem.as_bytes()).unwrap();
        if let Some(held) = &held {
            files::write_private(&folder.client(), held.as_bytes()).unwrap();
        }
        let error = enter(&config(dir.path(), Entry::Token(None)), &folder, None, ("192.0.2.1", 1)).await.err().unwrap().to_string();
        assert!(error.contains(want) && error.contains("--token"), "{error}");
        let other = JoinToken::generate(authority().1).unwrap();
        let error =
            enter(&config(dir.path(), Entry::Token(None)), &folder, Some(&other), ("192.0.2.1", 1)).await.err().unwrap().to_string();
        assert!(error.contains(&hash.to_string()) && error.contains("orch reset") && !error.contains(other.secret()), "{error}");
    }
}

#[test]
fn what_is_given_is_kept_while_it_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    let config = config(dir.path(), Entry::Token(None));
    let (pem, _) = authority();
    let hash = |pem: &str, client: &str| given(&config, &folder, pem, client).unwrap().1.key_hash;
    let first = hash(&pem, &client("a", 4000));
    assert_eq!(hash(&pem, &client("a", 4000)), first, "it may have been renewed since");
    let expired = client("a", 2020);
    files::write_private(&folder.client(), expired.as_bytes()).unwrap();
    let second = hash(&pem, &client("a", 4000));
    assert_ne!(second, first);
    assert_ne!(hash(&authority().0, &client("a", 4000)), second, "another authority, another certificate");
}

#[test]
fn refused_certificates_are_found_among_causes() {
    let refused = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
    let wrapped = std::io::Error::other(std::io::Error::other(refused()));
    assert_eq!(refusal(&wrapped), Some(&CertificateError::UnknownIssuer));
    assert_eq!(refusal(&std::io::Error::other("x")), None);
}
