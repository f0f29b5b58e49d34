//! `version`: ours and the server's.

use clap::Args;
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::output;
use super::session::{JSON, Session};
use super::verb::Verb;

/// The API version that the client is built for.
const API: (&str, &str) = ("1", "37");

/// Flags of `version`.
#[derive(Args, Clone, Debug, Default)]
pub struct Version {
    /// Only ours
    #[arg(long)]
    pub client: bool,
    /// Output: json or yaml
    #[arg(short = 'o', long)]
    pub output: Option<String>,
}

impl Verb for Version {
    const NAME: &'static str = "version";
    const ABOUT: &'static str = "Print the client and server version information";

    async fn run(self, session: &Session) -> Result<i32> {
        let own = format!("v{}.{}.0+orch.{}", API.0, API.1, env!("CARGO_PKG_VERSION"));
        let mut answer = json!({"clientVersion": {"major": API.0, "minor": API.1, "gitVersion": own,
            "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH)}});
        let server = if self.client { None } else { Some(session.get("/version", JSON).await) };
        if let Some(Ok(server)) = &server {
            answer["serverVersion"] = server.clone();
        }
        match self.output.as_deref() {
            Some("json") => session.print(&output::json(&answer)?)?,
            Some("yaml") => session.print(&output::yaml(&answer))?,
            None | Some("") => {
                session.line(&format!("Client Version: {own}"))?;
                if let Value::String(version) = &answer["serverVersion"]["gitVersion"] {
                    session.line(&format!("Server Version: {version}"))?;
                }
            }
            Some(_) => return Error::usage("--output must be 'yaml' or 'json'"),
        }
        match server {
            Some(Err(error)) => Err(error),
            _ => Ok(0),
        }
    }
}
