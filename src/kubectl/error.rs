//! What can go wrong, worded as kubectl words it.
//!
//! `Display` is the whole of what the user sees, `error: ` included. Follows `kubectl/pkg/cmd/util/helpers.go`.

use std::io;
use std::path::PathBuf;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

use crate::api::patch::PatchError;
use crate::api::selector::SelectorError;

use crate::api::jsonpath::TemplateError;

/// What the functions of this module give.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused.
    #[error("{}", refusal(.0))]
    Api(Box<Status>),
    /// The command line, or what it asks for, makes no sense.
    #[error("error: {0}")]
    Usage(String),
    /// The command line cannot be read.
    #[error("{0}")]
    Arguments(#[source] Box<clap::Error>),
    /// Nobody listens at the server's address.
    #[error("The connection to the server {0} was refused - did you specify the right host or port?")]
    Refused(String),
    /// The connection failed otherwise.
    #[error("Unable to connect to the server: {}", chain(.0))]
    Connect(#[source] kube::Error),
    /// No answer in time.
    #[error("Unable to connect to the server: no answer within {0:?} (--request-timeout)")]
    RequestTimeout(std::time::Duration),
    /// What was waited for did not happen.
    #[error("error: timed out waiting for the condition{0}")]
    TimedOut(String),
    /// The kubeconfig cannot be used.
    #[error("error: error loading config: {}", chain(.0))]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// The pod's own credentials cannot be used.
    #[error("error: in-cluster configuration: {0}")]
    InCluster(#[source] kube::config::InClusterError),
    /// A file cannot be read or written.
    #[error("error: {action} {}: {source}", path.display())]
    File {
        /// What was tried: `open`, `write`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A named file is not there.
    #[error("error: the path {0:?} does not exist")]
    NoPath(String),
    /// A manifest is no YAML or JSON.
    #[error("error: error parsing {name}: error converting YAML to JSON: {source}")]
    Manifest {
        /// The file.
        name: String,
        /// The parser's words.
        source: crate::api::yaml::Error,
    },
    /// JSON from the server or the command line cannot be read.
    #[error("error: {what}: {source}")]
    Json {
        /// Whose JSON it is.
        what: &'static str,
        /// The parser's words.
        source: serde_json::Error,
    },
    /// A JSONPath template is malformed, or does not fit the object.
    #[error(transparent)]
    JsonPath(#[from] TemplateError),
    /// A selector is malformed.
    #[error("error: {0}")]
    Selector(#[from] SelectorError),
    /// A patch does not apply.
    #[error("error: {0}")]
    Patch(#[from] PatchError),
    /// A request cannot be formed: a name with characters that no address holds.
    #[error("error: forming the request: {0}")]
    Request(#[from] http::Error),
    /// A stream to a container broke.
    #[error("error: {0}")]
    Remote(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Reading from the server broke off.
    #[error("error: reading the server's answer: {0}")]
    Stream(#[source] io::Error),
    /// Standard output, or the terminal, refused.
    #[error("error: {0}")]
    Output(#[source] io::Error),
    /// Several things went wrong, each told in a line.
    #[error("{}", lines(.0))]
    Several(Vec<Error>),
    /// Everything was said already; only the exit code is left.
    #[error("exit code {0}")]
    Exit(i32),
}

impl Error {
    /// A usage error.
    pub fn usage<T>(text: impl Into<String>) -> Result<T> {
        Err(Error::Usage(text.into()))
    }

    /// A usage error that points to the verb's help.
    pub fn usage_of<T>(verb: &str, text: &str) -> Result<T> {
        Err(Error::Usage(format!("{text}\nSee 'kubectl {verb} -h' for help and examples")))
    }

    /// These errors as one: the only one, or all of them.
    pub fn all(mut errors: Vec<Error>) -> Error {
        if errors.len() == 1 { errors.remove(0) } else { Error::Several(errors) }
    }

    /// What is wrong, to be put into a longer text: without `error: ` and without whose answer it is.
    pub fn plain(&self) -> String {
        match self {
            Error::Api(status) => status.message.clone().unwrap_or_default(),
            Error::Usage(text) => text.clone(),
            Error::Several(errors) => {
                let mut texts: Vec<String> = Vec::new();
                for text in errors.iter().map(Error::plain) {
                    if !texts.contains(&text) {
                        texts.push(text);
                    }
                }
                if texts.len() == 1 { texts.remove(0) } else { format!("[{}]", texts.join(", ")) }
            }
            other => {
                let text = other.to_string();
                text.strip_prefix("error: ").map(str::to_owned).unwrap_or(text)
            }
        }
    }

    /// The server's answer, if it was one.
    pub fn status(&self) -> Option<&Status> {
        if let Error::Api(status) = self { Some(status) } else { None }
    }

    fn has_reason(&self, reason: &str) -> bool {
        self.status().and_then(|status| status.reason.as_deref()) == Some(reason)
    }

    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.has_reason("NotFound")
    }

    /// Whether someone else changed the object in between.
    pub fn is_conflict(&self) -> bool {
        self.has_reason("Conflict")
    }

    /// Whether the reader of our output is gone.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Error::Output(source) if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The same error, naming what it happened to: `error when creating "x.yaml": ...`.
    pub fn when(self, doing: &str, source: &str) -> Error {
        match self {
            Error::Api(mut status) => {
                let message = status.message.take().unwrap_or_default();
                status.message = Some(format!("error when {doing} {source:?}: {message}"));
                Error::Api(status)
            }
            other => other,
        }
    }
}

/// An error and what caused it, without saying anything twice.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

fn lines(errors: &[Error]) -> String {
    let line = |error: &Error| if let Error::Api(status) = error { refusal(status) } else { error.plain() };
    errors.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn refusal(status: &Status) -> String {
    let message = status.message.as_deref().unwrap_or_default();
    match status.reason.as_deref().unwrap_or_default() {
        "Invalid" => invalid(status),
        "Unauthorized" => format!("error: You must be logged in to the server ({message})"),
        "" | "Unknown" => format!("Error from server: {message}"),
        reason => format!("Error from server ({reason}): {message}"),
    }
}

fn invalid(status: &Status) -> String {
    let Some(details) = &status.details else {
        return format!("The request is invalid: {}", status.message.as_deref().unwrap_or_default());
    };
    let subject = match (details.kind.as_deref().unwrap_or_default(), details.name.as_deref().unwrap_or_default()) {
        ("", _) => "The request is invalid".to_string(),
        (kind, "") => format!("The {kind} is invalid"),
        (kind, name) => format!("The {kind} {name:?} is invalid"),
    };
    let mut causes: Vec<String> = Vec::new();
    for cause in details.causes.iter().flatten() {
        let line = format!("{}: {}", cause.field.as_deref().unwrap_or_default(), cause.message.as_deref().unwrap_or_default());
        if !causes.contains(&line) {
            causes.push(line);
        }
    }
    match causes.as_slice() {
        [] => format!("{subject}: {}", status.message.as_deref().unwrap_or_default()),
        [one] => format!("{subject}: {one}"),
        many => format!("{subject}: \n{}", many.iter().map(|cause| format!("* {cause}\n")).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wording() {
        for (status, expected) in [
            ("{reason: NotFound, message: 'pods \"x\" not found'}", "Error from server (NotFound): pods \"x\" not found"),
            ("{message: boom}", "Error from server: boom"),
            ("{reason: Unauthorized, message: Unauthorized}", "error: You must be logged in to the server (Unauthorized)"),
            (
                "{reason: Invalid, message: m, details: {kind: Pod, name: a, causes: [{field: spec.x, message: 'Required value'}]}}",
                "The Pod \"a\" is invalid: spec.x: Required value",
            ),
            (
                "{reason: Invalid, details: {kind: Pod, name: a, causes: [{field: x, message: y}, {field: x, message: y}, {field: z, message: w}]}}",
                "The Pod \"a\" is invalid: \n* x: y\n* z: w\n",
            ),
        ] {
            let status: Status = serde_yaml::from_str(status).unwrap();
            assert_eq!(Error::Api(Box::new(status)).to_string(), expected);
        }
        let status = Status { reason: Some("AlreadyExists".into()), message: Some("m".into()), ..Status::default() };
        let error = Error::Api(Box::new(status)).when("creating", "a.yaml");
        assert_eq!(error.to_string(), "Error from server (AlreadyExists): error when creating \"a.yaml\": m");
    }
}
