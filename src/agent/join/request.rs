//! Asking the cluster for a certificate: a CertificateSigningRequest, and its answer.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};
use kube::runtime::watcher;

use super::JoinError;
use super::identity::{self, Identity};
use crate::client::{Change, Client, changes};

/// How long an answer may take: the cluster decides at once, an administrator may have to.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Talking to the API.
    Client,
    /// Being called.
    Serving,
}

impl Sort {
    fn signer(self) -> &'static str {
        match self {
            Sort::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Sort::Serving => "kubernetes.io/kubelet-serving",
        }
    }
    fn usage(self) -> &'static str {
        match self {
            Sort::Client => "client auth",
            Sort::Serving => "server auth",
        }
    }
    fn shown(self) -> &'static str {
        match self {
            Sort::Client => "client certificate",
            Sort::Serving => "serving certificate",
        }
    }
}

/// The answer, once there is one.
fn verdict(request: &CertificateSigningRequest) -> Option<Result<String, String>> {
    let status = request.status.as_ref()?;
    let condition = |kind: &str| status.conditions.iter().flatten().find(|c| c.type_ == kind && c.status == "True");
    if let Some(no) = condition("Denied").or_else(|| condition("Failed")) {
        return Some(Err(no.message.clone().or_else(|| no.reason.clone()).unwrap_or_else(|| "no reason was given".into())));
    }
    let pem = status.certificate.as_ref().filter(|pem| !pem.0.is_empty())?;
    Some(String::from_utf8(pem.0.clone()).map_err(|_| "the certificate is no text".into()))
}

/// Has a key certified as that of node `node`, for `names`: this one, or a new one.
pub async fn certify(client: &Client, node: &str, sort: Sort, names: &[String], key: Option<&str>) -> Result<Identity, JoinError> {
    let (key_pem, pem) = identity::request(node, names, key)?;
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let wanted = CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("node-csr-".into()), ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: sort.signer().into(),
            usages: Some(vec!["digital signature".into(), sort.usage().into()]),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let failed = |source| JoinError::Api { doing: format!("asking for a {}", sort.shown()), source: Box::new(source) };
    let made = api.create(&PostParams::default(), &wanted).await.map_err(failed)?;
    let name = made.metadata.name.unwrap_or_default();
    let answer = async {
        let mut stream = std::pin::pin!(changes(api, watcher::Config::default().fields(&format!("metadata.name={name}"))));
        loop {
            let seen = match stream.next().await {
                Some(Change::Reset(all)) => all,
                Some(Change::Set(one)) => vec![one],
                Some(Change::Gone(_)) => return Err("it was deleted".to_owned()),
                None => return Err("the watch ended".to_owned()),
            };
            if let Some(verdict) = seen.iter().find_map(verdict) {
                return verdict;
            }
        }
    };
    let refused = |why: String| JoinError::Refused { what: sort.shown(), node: node.into(), why };
    match tokio::time::timeout(PATIENCE, answer).await {
        Err(_) => Err(JoinError::Unanswered { name, waited: PATIENCE }),
        Ok(Err(why)) => Err(refused(why)),
        Ok(Ok(cert_pem)) => Identity::parse(&format!("{cert_pem}{key_pem}")).map_err(refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        for (status, want) in [
            ("{}", None),
            ("{status: {conditions: [{type: Approved, status: 'True'}]}}", None),
            ("{status: {certificate: QQ==}}", Some(Ok("A".to_owned()))),
            ("{status: {conditions: [{type: Denied, status: 'True', message: m, reason: r}]}}", Some(Err("m".to_owned()))),
            ("{status: {conditions: [{type: Failed, status: 'True', reason: r}]}}", Some(Err("r".to_owned()))),
            ("{status: {conditions: [{type: Denied, status: 'False'}]}}", None),
        ] {
            let mut tree: serde_json::Value = serde_yaml::from_str(status).expect("is YAML");
            tree["metadata"] = serde_json::json!({});
            tree["spec"] = serde_json::json!({"request": "", "signerName": "s"});
            assert_eq!(verdict(&serde_json::from_value(tree).expect("is one")), want, "{status}");
        }
    }
}
