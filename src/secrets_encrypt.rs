//! `orch secrets-encrypt`: the keys of Secrets at rest, asked of the running server. Its words are k3s's.

use anyhow::{Context, Result};
use http::{Method, Request};
use orch::client;
use orch::config::SecretsEncryptArgs;
use serde_json::{Value, json};

/// Where the server has it (`server/http/secrets.rs`).
const PATH: &str = "/orch/v1/secrets-encrypt";

/// Runs one command.
pub async fn run(args: SecretsEncryptArgs) -> Result<()> {
    let advice = || {
        let file = args.kubeconfig.display();
        format!(
            "keys change while the server runs: start `orch server` here, or give the administrator's kubeconfig (now --kubeconfig {file})"
        )
    };
    let client = client::from_file(&args.kubeconfig, "orch").await.with_context(advice)?;
    let (method, body) = match args.command.action() {
        None => (Method::GET, Vec::new()),
        Some(action) => (Method::PUT, json!({"action": action}).to_string().into_bytes()),
    };
    let request = Request::builder().method(method).uri(PATH).header("content-type", "application/json").body(body)?;
    let answer: Value = client.request(request).await.map_err(|error| match client::code(&error) {
        Some(_) => anyhow::Error::new(error),
        None => anyhow::Error::new(error).context(advice()),
    })?;
    match args.command.action() {
        None => print!("{}", status(&answer)),
        Some(_) => println!("{}", answer["message"].as_str().unwrap_or_default()),
    }
    Ok(())
}

/// The status as people read it.
fn status(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut out = format!(
        "Encryption Status: {}\nCurrent Rotation Stage: {}\nConfiguration: {}\n",
        if answer["enabled"] == true { "Enabled" } else { "Disabled" },
        text(&answer["stage"]),
        text(&answer["file"]),
    );
    for entry in answer["entries"].as_array().into_iter().flatten() {
        let resources: Vec<String> = entry["resources"].as_array().into_iter().flatten().map(text).collect();
        out += &format!("\nResources: {}\nActive  Key Type           Name\n------  --------           ----\n", resources.join(", "));
        for key in entry["keys"].as_array().into_iter().flatten() {
            let active = if key["active"] == true { " *" } else { "" };
            out += format!("{active:<8}{:<19}{}", text(&key["type"]), text(&key["name"])).trim_end();
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_reads_as_k3ss() {
        let answer = json!({"enabled": true, "stage": "rotate", "file": "f", "entries": [{"resources": ["secrets"], "keys": [
            {"active": true, "type": "AES-GCM", "name": "two"}, {"active": false, "type": "identity", "name": ""}]}]});
        let want = "Encryption Status: Enabled\nCurrent Rotation Stage: rotate\nConfiguration: f\n\nResources: secrets\n\
                    Active  Key Type           Name\n------  --------           ----\n *      AES-GCM            two\n        identity\n";
        assert_eq!(status(&answer), want);
    }
}
