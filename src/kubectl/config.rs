//! `config`: shows and edits the kubeconfig.
//!
//! Files are edited as trees, so that what we do not know is kept; and replaced as a whole, so that a crash leaves the old one.

use std::io::Write;
use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::output::{Output, yaml};
use super::session::Session;
use super::verb::Verb;
use super::{kubeconfig, tabs};

/// Flags of `config`.
#[derive(Args, Clone, Debug)]
pub struct Config {
    #[command(subcommand)]
    pub action: Action,
}

/// What to do.
#[derive(Subcommand, Clone, Debug)]
pub enum Action {
    /// Show the merged kubeconfig
    View {
        /// With certificates and secrets
        #[arg(long)]
        raw: bool,
        /// Only what the current context uses
        #[arg(long)]
        minify: bool,
        /// Output: yaml, json, jsonpath=...
        #[arg(short = 'o', long, default_value = "yaml")]
        output: String,
    },
    /// Show the current context
    CurrentContext,
    /// Make a context the current one
    #[command(alias = "use")]
    UseContext {
        /// Which
        name: String,
    },
    /// Show all contexts
    GetContexts {
        /// Only this one
        name: Option<String>,
        /// Output: name
        #[arg(short = 'o', long)]
        output: Option<String>,
        /// Leave the column names out
        #[arg(long)]
        no_headers: bool,
    },
    /// Change or add a context: --cluster, --user, --namespace
    SetContext {
        /// Which
        name: Option<String>,
        /// The current one
        #[arg(long)]
        current: bool,
    },
}

impl Verb for Config {
    const NAME: &'static str = "config";
    const ABOUT: &'static str = "View and modify the kubeconfig";

    async fn run(self, session: &Session) -> Result<i32> {
        let config = || -> Result<Value> {
            let loaded = kubeconfig::load(&session.global)?.unwrap_or_default();
            serde_json::to_value(loaded).map_err(|source| Error::Json { what: "the kubeconfig", source })
        };
        match self.action {
            Action::View { raw, minify, output } => {
                let mut config = config()?;
                if minify {
                    reduce(&mut config, session.global.context.as_deref())?;
                }
                if !raw {
                    redact(&mut config);
                }
                for (key, value) in [("apiVersion", json!("v1")), ("kind", json!("Config"))] {
                    config[key] = value;
                }
                session.print(&Output::parse(Some(&output))?.render(&config, None)?.unwrap_or_default())?;
            }
            Action::CurrentContext => match config()?["current-context"].as_str().filter(|name| !name.is_empty()) {
                Some(name) => session.line(name)?,
                None => return Error::usage("current-context is not set"),
            },
            Action::GetContexts { name, output, no_headers } => {
                let text = contexts(&config()?, name.as_deref(), output.as_deref() == Some("name"), no_headers)?;
                session.print(&text)?;
            }
            Action::UseContext { name } => {
                if !elements(&config()?, "contexts").any(|context| context["name"] == name.as_str()) {
                    return Error::usage(format!("no context exists with the name: {name:?}"));
                }
                edit(session, |config| {
                    config["current-context"] = name.as_str().into();
                    Ok(())
                })?;
                session.line(&format!("Switched to context {name:?}."))?;
            }
            Action::SetContext { name, current } => {
                let merged = config()?;
                let name = match (name, current) {
                    (Some(name), false) => name,
                    (None, true) => match merged["current-context"].as_str().filter(|name| !name.is_empty()) {
                        Some(name) => name.to_string(),
                        None => return Error::usage("no current context is set"),
                    },
                    _ => return Error::usage("you must specify a context name, or --current"),
                };
                let known = elements(&merged, "contexts").find(|context| context["name"] == name.as_str()).cloned();
                let global = &session.global;
                let fields = [("cluster", &global.cluster), ("user", &global.user), ("namespace", &global.namespace)];
                edit(session, |config| {
                    set_context(config, &name, known.clone(), &fields);
                    Ok(())
                })?;
                session.line(&format!("Context {name:?} {}.", if known.is_some() { "modified" } else { "created" }))?;
            }
        }
        Ok(0)
    }
}

fn elements<'a>(config: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    config[list].as_array().into_iter().flatten()
}

/// Sets fields of a context, which is added if the file has it not.
fn set_context(config: &mut Value, name: &str, known: Option<Value>, fields: &[(&str, &Option<String>)]) {
    if !config["contexts"].is_array() {
        config["contexts"] = json!([]);
    }
    let Some(list) = config["contexts"].as_array_mut() else { return };
    let at = list.iter().position(|context| context["name"] == name).unwrap_or_else(|| {
        list.push(known.unwrap_or_else(|| json!({"name": name, "context": {"cluster": "", "user": ""}})));
        list.len() - 1
    });
    for (field, value) in fields {
        if let Some(value) = value {
            list[at]["context"][*field] = value.as_str().into();
        }
    }
}

/// Changes the file that changes go to.
fn edit(session: &Session, change: impl FnOnce(&mut Value) -> Result<()>) -> Result<()> {
    let path = kubeconfig::writable(&session.global)?;
    let failed = |action: &'static str| move |path: &Path, source| Error::File { action, path: path.to_path_buf(), source };
    let mut config: Value = match std::fs::read_to_string(&path) {
        Ok(text) => crate::api::yaml::read(text.as_bytes(), &mut Vec::new())
            .map_err(|source| Error::Manifest { name: path.display().to_string(), source })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => json!({"apiVersion": "v1", "kind": "Config"}),
        Err(error) => return Err(failed("open")(&path, error)),
    };
    change(&mut config)?;
    let text = yaml(&config);
    // Through links: the file that is meant is replaced, not the link.
    let path = path.canonicalize().unwrap_or(path);
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        // A temporary file can be read by its owner only, as the result must be.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&path).map(drop).map_err(|error| error.error)
    };
    write().map_err(|error| failed("write")(&path, error))
}

/// Hides what nobody should see over a shoulder.
fn redact(config: &mut Value) {
    let secret = [
        ("certificate-authority-data", "DATA+OMITTED"),
        ("client-certificate-data", "DATA+OMITTED"),
        ("client-key-data", "DATA+OMITTED"),
        ("token", "REDACTED"),
        ("password", "REDACTED"),
    ];
    for (list, inner) in [("clusters", "cluster"), ("users", "user")] {
        for element in config.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            for (field, shown) in secret {
                if element[inner].get(field).is_some_and(|value| !value.is_null()) {
                    element[inner][field] = shown.into();
                }
            }
        }
    }
}

/// Leaves only what one context uses.
fn reduce(config: &mut Value, context: Option<&str>) -> Result<()> {
    let name = context.or(config["current-context"].as_str()).unwrap_or_default().to_string();
    let Some(context) = elements(config, "contexts").find(|context| context["name"] == name.as_str()).cloned() else {
        return Error::usage(format!("cannot locate context {name:?}"));
    };
    for (list, keep) in
        [("contexts", &context["name"]), ("clusters", &context["context"]["cluster"]), ("users", &context["context"]["user"])]
    {
        if let Some(list) = config.get_mut(list).and_then(Value::as_array_mut) {
            list.retain(|element| element["name"] == *keep);
        }
    }
    config["current-context"] = name.into();
    Ok(())
}

fn contexts(config: &Value, only: Option<&str>, names: bool, no_headers: bool) -> Result<String> {
    let mut shown: Vec<&Value> = elements(config, "contexts").filter(|context| only.is_none_or(|name| context["name"] == name)).collect();
    if let (Some(name), true) = (only, shown.is_empty()) {
        return Error::usage(format!("context {name} not found"));
    }
    shown.sort_by_key(|context| context["name"].as_str().unwrap_or_default());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    if names {
        return Ok(shown.iter().map(|context| format!("{}\n", text(&context["name"]))).collect());
    }
    let mut lines = if no_headers { String::new() } else { "CURRENT\tNAME\tCLUSTER\tAUTHINFO\tNAMESPACE\n".to_string() };
    for context in shown {
        let mark = if context["name"] == config["current-context"] { "*" } else { "" };
        let inner = &context["context"];
        lines.push_str(&format!(
            "{mark}\t{}\t{}\t{}\t{}\n",
            text(&context["name"]),
            text(&inner["cluster"]),
            text(&inner["user"]),
            text(&inner["namespace"])
        ));
    }
    Ok(tabs::align(&lines, 6, 3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::flags::Global;

    const CONFIG: &str = "
kind: Config
current-context: a
unknown: kept
contexts: [{name: b, context: {cluster: d, user: v}}, {name: a, context: {cluster: c, user: u, namespace: n}}]
clusters: [{name: c, cluster: {server: s, certificate-authority-data: x}}, {name: d, cluster: {}}]
users: [{name: u, user: {token: secret, client-key-data: k}}]";

    fn value() -> Value {
        serde_yaml::from_str(CONFIG).unwrap()
    }

    #[test]
    fn views() {
        let expected = "CURRENT   NAME   CLUSTER   AUTHINFO   NAMESPACE\n*         a      c         u          n\n          b      d         v          \n";
        assert_eq!(contexts(&value(), None, false, false).unwrap(), expected);
        assert_eq!(contexts(&value(), None, true, false).unwrap(), "a\nb\n");
        assert!(contexts(&value(), Some("z"), false, false).is_err());
        let mut hidden = value();
        redact(&mut hidden);
        let text = hidden.to_string();
        assert!(!text.contains("secret") && text.contains("REDACTED") && text.matches("DATA+OMITTED").count() == 2, "{text}");
        let mut one = value();
        reduce(&mut one, Some("b")).unwrap();
        assert_eq!((one["contexts"].as_array().unwrap().len(), &one["clusters"][0]["name"]), (1, &json!("d")));
    }

    #[tokio::test]
    async fn edits_keep_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, CONFIG).unwrap();
        let session = |namespace: Option<&str>| {
            Session::new(Global { kubeconfig: Some(path.clone()), namespace: namespace.map(Into::into), ..Global::default() })
        };
        let run = async |action: Action, namespace| Config { action }.run(&session(namespace)).await;
        run(Action::UseContext { name: "b".into() }, None).await.unwrap();
        run(Action::SetContext { name: None, current: true }, Some("new")).await.unwrap();
        assert!(run(Action::UseContext { name: "z".into() }, None).await.is_err());
        let now: Value = serde_yaml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!((&now["current-context"], &now["unknown"]), (&json!("b"), &json!("kept")));
        assert_eq!(now["contexts"][0]["context"]["namespace"], "new");
        assert_eq!(now["users"], value()["users"]);
    }
}
