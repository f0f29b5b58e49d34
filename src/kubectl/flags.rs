//! Flags that several verbs share.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

/// Flags of verbs that connect our streams with a container's.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Streams {
    /// Pass standard input on
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Standard input is a terminal
    #[arg(short = 't', long)]
    pub tty: bool,
    /// Only print the container's own output
    #[arg(short = 'q', long)]
    pub quiet: bool,
}

/// Flags that every verb accepts.
#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// Path of the kubeconfig file
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig to use
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// Cluster of the kubeconfig to use
    #[arg(long, global = true)]
    pub cluster: Option<String>,
    /// User of the kubeconfig to use
    #[arg(long, global = true)]
    pub user: Option<String>,
    /// Namespace of this request
    #[arg(short = 'n', long, global = true)]
    pub namespace: Option<String>,
    /// Address of the API server
    #[arg(short = 's', long, global = true, value_name = "URL")]
    pub server: Option<String>,
    /// Bearer token
    #[arg(long, global = true, hide_env_values = true)]
    pub token: Option<String>,
    /// File with the certificate authority's certificate
    #[arg(long, global = true, value_name = "FILE")]
    pub certificate_authority: Option<PathBuf>,
    /// File with the client's certificate
    #[arg(long, global = true, value_name = "FILE")]
    pub client_certificate: Option<PathBuf>,
    /// File with the client's key
    #[arg(long, global = true, value_name = "FILE")]
    pub client_key: Option<PathBuf>,
    /// Do not check the server's certificate: the connection can be read and changed by others
    #[arg(long, global = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub insecure_skip_tls_verify: Option<bool>,
    /// User to act as
    #[arg(long = "as", global = true, value_name = "USER")]
    pub impersonate: Option<String>,
    /// Groups to act as
    #[arg(long = "as-group", global = true, value_name = "GROUP")]
    pub impersonate_groups: Vec<String>,
    /// How long to wait for one answer, such as 5s; 0 waits forever
    #[arg(long, global = true, value_parser = duration, value_name = "DURATION")]
    pub request_timeout: Option<Duration>,
    /// Verbosity: from 6 on, requests are shown
    #[arg(short = 'v', long = "v", global = true, value_name = "LEVEL")]
    pub verbosity: Option<u8>,
}

/// Whether a change is made or only shown.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DryRun {
    /// It is made.
    #[default]
    None,
    /// It is not sent.
    Client,
    /// It is sent, checked, and not stored.
    Server,
}

impl DryRun {
    /// What result lines end with.
    pub fn suffix(self) -> &'static str {
        match self {
            DryRun::None => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        }
    }

    /// The query parameter.
    pub fn query(self) -> Option<(&'static str, &'static str)> {
        (self == DryRun::Server).then_some(("dryRun", "All"))
    }
}

/// `--dry-run` and `-o` of verbs that change something.
#[derive(Args, Clone, Debug, Default)]
pub struct Change {
    /// Only show what would be sent (client), or have the server check without storing (server)
    #[arg(long, value_enum, default_value = "none", num_args = 0..=1, default_missing_value = "client", require_equals = true)]
    pub dry_run: DryRun,
    /// Output: json, yaml, name, jsonpath=..., custom-columns=...
    #[arg(short = 'o', long)]
    pub output: Option<String>,
    /// Name that managed fields are recorded under
    #[arg(long)]
    pub field_manager: Option<String>,
}

impl Change {
    /// Query parameters for a changing request.
    pub fn query(&self) -> Vec<(&str, &str)> {
        self.query_as("kubectl")
    }

    /// The same of a verb that has another name for its fields.
    pub fn query_as<'a>(&'a self, manager: &'a str) -> Vec<(&'a str, &'a str)> {
        let mut query = vec![("fieldManager", self.field_manager.as_deref().unwrap_or(manager))];
        query.extend(self.dry_run.query());
        query
    }
}

/// `-f`, `-R` and `-k`.
#[derive(Args, Clone, Debug, Default)]
pub struct Files {
    /// File, folder or `-` (standard input) that holds the objects
    #[arg(short = 'f', long = "filename", value_name = "FILE", value_delimiter = ',')]
    pub filename: Vec<String>,
    /// Read folders and the folders below them
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// A kustomization folder (not supported)
    #[arg(short = 'k', long, value_name = "FOLDER")]
    pub kustomize: Option<String>,
}

/// Reads a duration as Go writes them: `1h2m3.5s`, `300ms`, or plain seconds. A negative one means without limit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, body) = text.strip_prefix('-').map_or((false, text), |body| (true, body));
    if body.is_empty() {
        return Err(invalid());
    }
    if let Ok(seconds) = body.parse::<u64>() {
        return Ok(if negative { Duration::MAX } else { Duration::from_secs(seconds) });
    }
    let (mut rest, mut total) = (body, 0.0_f64);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let number: f64 = rest[..end].parse().map_err(|_| invalid())?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(invalid()),
        };
        total += number * unit;
        rest = &rest[end..];
    }
    if negative {
        return Ok(Duration::MAX);
    }
    Duration::try_from_secs_f64(total).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [("5s", 5000), ("1h2m", 3_720_000), ("300ms", 300), ("1.5s", 1500), ("30", 30_000), ("0s", 0), ("0", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(duration("-1s"), Ok(Duration::MAX));
        for text in ["", "5x", "s", "1h2", "abc", "-"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
