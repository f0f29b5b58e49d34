//! Admission of connections: exec, attach, port-forward and the proxies, before anything is connected.
//!
//! Upstream's `ConnectResource` (`apiserver/pkg/endpoints/handlers/rest.go`): the query becomes the options object of the subresource, which
//! admission may refuse or change; what it changed is what is connected with.

use serde_json::{Map, Value, json};

use super::Call;
use super::query::{Query, percent_encode};
use super::verbs;
use crate::api::Status;
use crate::server::registry::ConnectOptions;

/// How a field of an options object is written in a query.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Flag,
    Text,
    Texts,
    Numbers,
}

/// Resource, subresource, the kind of its options, and their fields.
type Connection = (&'static str, &'static str, &'static str, &'static [(&'static str, Field)]);

const STREAMS: &[(&str, Field)] = &[
    ("stdin", Field::Flag),
    ("stdout", Field::Flag),
    ("stderr", Field::Flag),
    ("tty", Field::Flag),
    ("container", Field::Text),
    ("command", Field::Texts),
];

const CONNECTIONS: &[Connection] = &[
    ("pods", "exec", "PodExecOptions", STREAMS),
    // All but the command.
    ("pods", "attach", "PodAttachOptions", STREAMS.split_at(5).0),
    ("pods", "portforward", "PodPortForwardOptions", &[("ports", Field::Numbers)]),
    ("pods", "proxy", "PodProxyOptions", &[]),
    ("services", "proxy", "ServiceProxyOptions", &[]),
    ("nodes", "proxy", "NodeProxyOptions", &[]),
];

/// Asks admission. Changed options replace those of the query; returns the warnings.
pub(super) async fn admit(call: &mut Call) -> Result<Vec<String>, Status> {
    let (resource, subresource) = (call.info.resource.as_str(), call.info.subresource.as_str());
    let Some((.., kind_of_options, fields)) = CONNECTIONS.iter().find(|one| one.0 == resource && one.1 == subresource) else {
        return Ok(Vec::new());
    };
    let kind = call.app.registry.kind("", "v1", resource).ok_or_else(Status::no_such_path)?;
    let mut options = options(&call.query, fields);
    if subresource == "proxy" {
        options["path"] = call.info.rest.as_str().into();
    }
    let connect = ConnectOptions::new(kind_of_options, &call.info.namespace, &call.info.name, options);
    let before = connect.tree().clone();
    let write = verbs::write_options(call)?;
    let admitted = call.app.registry.admit_connection(&kind, connect, &write).await?;
    let after = admitted.object.as_any().downcast_ref::<ConnectOptions>().map(|options| options.tree().clone());
    if let Some(after) = after.filter(|after| *after != before) {
        call.query = query(&after, fields);
        if subresource == "proxy" {
            call.info.rest = after["path"].as_str().unwrap_or_default().trim_start_matches('/').to_owned();
        }
    }
    verbs::note(call, &admitted.annotations);
    Ok(admitted.warnings)
}

fn options(query: &Query, fields: &[(&str, Field)]) -> Value {
    let mut options = Map::new();
    for (name, field) in fields {
        let value = match field {
            Field::Flag => query.flag(name).then_some(json!(true)),
            Field::Text => query.first(name).filter(|text| !text.is_empty()).map(|text| json!(text)),
            Field::Texts => Some(query.all(name).collect::<Vec<_>>()).filter(|all| !all.is_empty()).map(|all| json!(all)),
            Field::Numbers => {
                let numbers = query.all(name).flat_map(|all| all.split(',')).filter_map(|one| one.trim().parse::<i32>().ok());
                Some(numbers.collect::<Vec<_>>()).filter(|all| !all.is_empty()).map(|all| json!(all))
            }
        };
        options.extend(value.map(|value| ((*name).to_owned(), value)));
    }
    Value::Object(options)
}

/// The query that says what these options say.
fn query(options: &Value, fields: &[(&str, Field)]) -> Query {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut pairs = Vec::new();
    for (name, _) in fields {
        let values = match options.get(*name) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(all)) => all.iter().map(text).collect(),
            Some(one) => vec![text(one)],
        };
        pairs.extend(values.iter().map(|value| format!("{name}={}", percent_encode(value))));
    }
    Query::parse(&pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_back() {
        let exec = "stdin=true&stdout=true&stderr=false&container=a&command=sh&command=-c";
        let tree = options(&Query::parse(exec), STREAMS);
        assert_eq!(tree, json!({"stdin": true, "stdout": true, "container": "a", "command": ["sh", "-c"]}));
        assert_eq!(options(&query(&tree, STREAMS), STREAMS), tree);
        let ports: &[(&str, Field)] = &[("ports", Field::Numbers)];
        assert_eq!(options(&Query::parse("ports=80,81&ports=82"), ports), json!({"ports": [80, 81, 82]}));
        assert!(CONNECTIONS[1].3.iter().all(|(name, _)| *name != "command"));
    }
}
