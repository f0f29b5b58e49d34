//! Client certificates that TLS has verified: CN is the name, O are the groups.
//!
//! Follows upstream's `apiserver/pkg/authentication/request/x509`.

use x509_parser::prelude::{FromDer, X509Certificate};

use super::{AuthnError, authenticated};
use crate::server::registry::User;

/// Subject attribute with the uid (`1.3.6.1.4.1.57683.2`).
const UID: &str = "1.3.6.1.4.1.57683.2";

/// The user of a certificate.
pub fn certificate(der: &[u8]) -> Result<User, AuthnError> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|_| AuthnError::Certificate)?;
    let text = |part: &x509_parser::x509::AttributeTypeAndValue<'_>| part.as_str().map(str::to_owned).map_err(|_| AuthnError::Certificate);
    let name = cert.subject().iter_common_name().next().map(text).transpose()?.filter(|n| !n.is_empty()).ok_or(AuthnError::Certificate)?;
    let groups = cert.subject().iter_organization().map(text).collect::<Result<Vec<_>, _>>()?;
    let uid = cert.subject().iter_attributes().find(|part| part.attr_type().to_id_string() == UID).map(text).transpose()?;
    let digest = super::digest(der).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let id = ("authentication.kubernetes.io/credential-id".to_owned(), vec![format!("X509SHA256={digest}")]);
    Ok(authenticated(User { name, uid: uid.unwrap_or_default(), groups, extra: [id].into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates() {
        let make = |cn: &str, organization: &str| {
            let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(rcgen::DnType::CommonName, cn);
            params.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
            params.distinguished_name.push(rcgen::DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57683, 2]), "u-1");
            params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
        };
        let user = certificate(&make("system:node:n1", "system:nodes")).unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("system:node:n1", "u-1"));
        assert_eq!(user.groups, ["system:nodes", "system:authenticated"]);
        let id = &user.extra["authentication.kubernetes.io/credential-id"][0];
        assert!(id.starts_with("X509SHA256=") && id.len() == 11 + 64, "{id}");
        assert_eq!(certificate(&make("", "x")), Err(AuthnError::Certificate));
        assert_eq!(certificate(b"junk"), Err(AuthnError::Certificate));
    }
}
