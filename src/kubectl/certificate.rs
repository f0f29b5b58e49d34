//! `certificate approve` and `certificate deny`: what becomes of certificate signing requests.
//!
//! Follows `kubectl/pkg/cmd/certificates`.

use clap::{Args, Subcommand};
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::flags::{Change, DryRun, Files};
use super::objects::{Found, located};
use super::output;
use super::session::{JSON, Session};
use super::verb::Verb;

/// Attempts when others change a request at the same time.
const ATTEMPTS: usize = 11;

/// Flags of `certificate`.
#[derive(Args, Clone, Debug)]
pub struct Certificate {
    #[command(subcommand)]
    pub action: Action,
}

/// What becomes of the requests.
#[derive(Subcommand, Clone, Debug)]
pub enum Action {
    /// Approve a certificate signing request
    Approve(Requests),
    /// Deny a certificate signing request
    Deny(Requests),
}

/// Which requests, and how.
#[derive(Args, Clone, Debug)]
pub struct Requests {
    /// NAME, or csr/NAME
    #[arg(value_name = "NAME")]
    pub words: Vec<String>,
    #[command(flatten)]
    pub files: Files,
    /// Update the request even if it is approved, or denied, already
    #[arg(long)]
    pub force: bool,
    /// Output: json, yaml, name, jsonpath=..., custom-columns=...
    #[arg(short = 'o', long)]
    pub output: Option<String>,
}

/// A decision, and what it says of itself.
struct Decision {
    condition: &'static str,
    /// The condition of the other decision, which can't be taken back.
    opposite: &'static str,
    reason: &'static str,
    message: &'static str,
    done: &'static str,
}

const APPROVAL: Decision = Decision {
    condition: "Approved",
    opposite: "Denied",
    reason: "KubectlApprove",
    message: "This CSR was approved by kubectl certificate approve.",
    done: "approved",
};

const DENIAL: Decision = Decision {
    condition: "Denied",
    opposite: "Approved",
    reason: "KubectlDeny",
    message: "This CSR was denied by kubectl certificate deny.",
    done: "denied",
};

impl Verb for Certificate {
    const NAME: &'static str = "certificate";
    const ABOUT: &'static str = "Modify certificate resources";

    async fn run(self, session: &Session) -> Result<i32> {
        match self.action {
            Action::Approve(requests) => requests.decide(session, &APPROVAL).await,
            Action::Deny(requests) => requests.decide(session, &DENIAL).await,
        }
    }
}

impl Requests {
    async fn decide(&self, session: &Session, decision: &Decision) -> Result<i32> {
        if self.words.is_empty() && self.files.filename.is_empty() && self.files.kustomize.is_none() {
            return Error::usage("one or more CSRs must be specified as <name> or -f <filename>");
        }
        let change = Change { dry_run: DryRun::None, output: self.output.clone(), ..Change::default() };
        let mut errors = Vec::new();
        for found in self.found(session).await? {
            match self.decide_one(session, &found, decision).await {
                Ok(object) => output::report(session, &change, &found.title(), &object, decision.done)?,
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(0) } else { Err(Error::all(errors)) }
    }

    /// The requests by name, as yet unseen.
    async fn found(&self, session: &Session) -> Result<Vec<Found>> {
        if !self.words.is_empty() && !self.files.filename.is_empty() {
            return Error::usage("when paths, URLs, or stdin is provided as input, you may not specify resource arguments as well");
        }
        let mut found = located(session, &self.files).await?;
        let catalog = session.catalog().await?;
        for word in &self.words {
            let (kind, name) = word.split_once('/').unwrap_or(("certificatesigningrequests", word));
            let resource = catalog.resolve(kind)?.clone();
            found.push(Found { name: name.into(), namespace: None, resource, object: Value::Null });
        }
        for found in &found {
            if (found.resource.group.as_str(), found.resource.kind.as_str()) != ("certificates.k8s.io", "CertificateSigningRequest") {
                let got = if found.resource.group.is_empty() {
                    found.resource.kind.clone()
                } else {
                    format!("{}.{}", found.resource.kind, found.resource.group)
                };
                return Error::usage(format!("can only handle CertificateSigningRequest.certificates.k8s.io objects, got {got}"));
            }
        }
        Ok(found)
    }

    async fn decide_one(&self, session: &Session, found: &Found, decision: &Decision) -> Result<Value> {
        let mut attempt = 1;
        loop {
            let request = session.get(&found.path(), JSON).await?;
            let Some(decided) = decided(&request, decision, Timestamp::now(), self.force)? else { return Ok(request) };
            match session.change(Method::PUT, &format!("{}/approval", found.path()), &decided).await {
                Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
                answer => return answer,
            }
        }
    }
}

/// The request with the decision; none if it was made before, and need not be made again.
fn decided(request: &Value, decision: &Decision, now: Timestamp, force: bool) -> Result<Option<Value>> {
    let conditions = request["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let has = |kind: &str| conditions.iter().any(|condition| condition["type"] == kind);
    if has(decision.opposite) {
        let name = request["metadata"]["name"].as_str().unwrap_or_default();
        return Error::usage(format!("certificate signing request {name:?} is already {}", decision.opposite));
    }
    let mut request = request.clone();
    match (has(decision.condition), force) {
        (true, false) => return Ok(None),
        (true, true) => {}
        (false, _) => {
            let made = json!({
                "type": decision.condition, "status": "True", "reason": decision.reason, "message": decision.message,
                "lastUpdateTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            });
            request["status"]["conditions"] = conditions.iter().cloned().chain([made]).collect();
        }
    }
    Ok(Some(request))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::support;

    #[test]
    fn decisions() {
        let request = |conditions: &[&str]| {
            let conditions: Vec<Value> = conditions.iter().map(|kind| json!({"type": kind})).collect();
            json!({"metadata": {"name": "a"}, "status": {"conditions": conditions}})
        };
        let now: Timestamp = "2026-01-01T00:00:00.5Z".parse().unwrap();
        let made = |had: &[&str], decision, force| {
            let decided = decided(&request(had), decision, now, force).map_err(|error| error.to_string())?;
            Ok::<_, String>(decided.map(|request| {
                let all = request["status"]["conditions"].as_array().cloned().unwrap_or_default();
                all.iter().map(|condition| condition["type"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
            }))
        };
        let some = |kinds: &[&str]| Ok(Some(kinds.iter().map(|kind| kind.to_string()).collect()));
        assert_eq!(made(&[], &APPROVAL, false), some(&["Approved"]));
        assert_eq!(made(&["Failed"], &DENIAL, false), some(&["Failed", "Denied"]));
        assert_eq!(made(&["Approved"], &APPROVAL, false), Ok(None));
        assert_eq!(made(&["Approved"], &APPROVAL, true), some(&["Approved"]));
        assert_eq!(made(&["Denied"], &APPROVAL, true), Err("error: certificate signing request \"a\" is already Denied".into()));
        assert_eq!(made(&["Approved"], &DENIAL, false), Err("error: certificate signing request \"a\" is already Approved".into()));
        let fresh = decided(&json!({"metadata": {}}), &DENIAL, now, false).unwrap().unwrap();
        let want = json!([{
            "type": "Denied", "status": "True", "reason": "KubectlDeny", "message": "This CSR was denied by kubectl certificate deny.",
            "lastUpdateTime": "2026-01-01T00:00:00Z",
        }]);
        assert_eq!(fresh["status"]["conditions"], want);
    }

    async fn run(line: &str, answers: &[(&str, &str)]) -> (Result<i32>, String, Vec<String>) {
        use clap::FromArgMatches;
        let (session, record) = support::session(answers);
        let words = std::iter::once("certificate").chain(line.split_whitespace());
        let matches = <Certificate as Args>::augment_args(clap::Command::new("certificate")).get_matches_from(words);
        let result = Certificate::from_arg_matches(&matches).unwrap().run(&session).await;
        let changes = record.requests().into_iter().filter(|request| !request.starts_with("GET")).collect();
        (result, record.output(), changes)
    }

    #[tokio::test]
    async fn requests_are_decided_on() {
        const PATH: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests/a";
        let (get, put) = (format!("GET {PATH}"), format!("PUT {PATH}/approval"));
        let object = "{kind: CertificateSigningRequest, apiVersion: certificates.k8s.io/v1, metadata: {name: a}}";
        let answers = [(get.as_str(), object), (put.as_str(), object)];
        let (code, out, sent) = run("approve a", &answers).await;
        assert_eq!((code.unwrap(), out.as_str()), (0, "certificatesigningrequest.certificates.k8s.io/a approved\n"));
        assert!(sent.len() == 1 && sent[0].starts_with(&put) && sent[0].contains("KubectlApprove"), "{sent:?}");
        let (code, out, _) = run("deny csr/a -o name", &answers).await;
        assert_eq!((code.unwrap(), out.as_str()), (0, "certificatesigningrequest.certificates.k8s.io/a\n"));
        for (line, want) in [
            ("approve", "error: one or more CSRs must be specified as <name> or -f <filename>"),
            ("deny none", "Error from server (NotFound): certificatesigningrequests \"none\" not found"),
            ("deny pod/a", "error: can only handle CertificateSigningRequest.certificates.k8s.io objects, got Pod"),
        ] {
            assert_eq!(run(line, &answers).await.0.unwrap_err().to_string(), want, "{line}");
        }
        // Others change it again and again: there is an end.
        let conflict = "{kind: Status, code: 409, reason: Conflict, message: m}";
        let (error, _, sent) = run("approve a", &[(get.as_str(), object), (put.as_str(), conflict)]).await;
        assert!(error.unwrap_err().is_conflict() && sent.len() == ATTEMPTS, "{sent:?}");
    }
}
