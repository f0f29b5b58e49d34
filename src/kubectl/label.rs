//! `label` and `annotate`: set and remove pairs of an object's metadata.

use clap::Args;
use http::Method;
use serde_json::{Map, Value, json};

use super::error::{Error, Result};
use super::flags::{Change, DryRun};
use super::objects::Selection;
use super::output;
use super::session::{Session, with_query};
use super::verb::Verb;

/// Flags of both verbs.
#[derive(Args, Clone, Debug)]
pub struct Pairs {
    #[command(flatten)]
    pub selection: Selection,
    /// Replace values that are there
    #[arg(long)]
    pub overwrite: bool,
    /// Show the pairs that are there
    #[arg(long)]
    pub list: bool,
    #[command(flatten)]
    pub change: Change,
}

/// `label`
#[derive(Args, Clone, Debug)]
pub struct Label {
    #[command(flatten)]
    pub pairs: Pairs,
}

/// `annotate`
#[derive(Args, Clone, Debug)]
pub struct Annotate {
    #[command(flatten)]
    pub pairs: Pairs,
}

impl Verb for Label {
    const NAME: &'static str = "label";
    const ABOUT: &'static str = "Update the labels on a resource: KEY=VALUE sets, KEY- removes";

    async fn run(self, session: &Session) -> Result<i32> {
        self.pairs.run(session, "labels", "label").await
    }
}

impl Verb for Annotate {
    const NAME: &'static str = "annotate";
    const ABOUT: &'static str = "Update the annotations on a resource: KEY=VALUE sets, KEY- removes";

    async fn run(self, session: &Session) -> Result<i32> {
        self.pairs.run(session, "annotations", "annotation").await
    }
}

/// Words that name objects, and the changes that the others make: `None` removes.
type Split = (Vec<String>, Vec<(String, Option<String>)>);

fn split(words: &[String], what: &str) -> Result<Split> {
    let is_change = |word: &String| word.contains('=') || word.ends_with('-');
    let (changes, objects): (Vec<_>, Vec<_>) = words.iter().cloned().partition(is_change);
    let mut found: Vec<(String, Option<String>)> = Vec::new();
    for change in changes {
        let (key, value) = match change.split_once('=') {
            Some((key, value)) => (key.to_string(), Some(value.to_string())),
            None => (change.trim_end_matches('-').to_string(), None),
        };
        if key.is_empty() {
            return Error::usage(format!("invalid {what} spec: {change}"));
        }
        if found.iter().any(|(other, known)| *other == key && known.is_some() != value.is_some()) {
            return Error::usage(format!("can not both modify and remove {what} {key:?} in the same command"));
        }
        found.push((key, value));
    }
    Ok((objects, found))
}

impl Pairs {
    async fn run(mut self, session: &Session, field: &str, what: &str) -> Result<i32> {
        let (words, changes) = split(&self.selection.words, what)?;
        if changes.is_empty() && !self.list {
            return Error::usage(format!("at least one {what} update is required"));
        }
        self.selection.words = words;
        for found in self.selection.fetch(session).await? {
            let own = found.object["metadata"][field].as_object().cloned().unwrap_or_default();
            if self.list {
                for (key, value) in &own {
                    session.line(&format!("{key}={}", value.as_str().unwrap_or_default()))?;
                }
                continue;
            }
            let (patch, done) = self.patch(&own, &changes, what)?;
            for (key, value) in &changes {
                if value.is_none() && !own.contains_key(key) {
                    session.note(&format!("{what} {key:?} not found."));
                }
            }
            let object = match self.change.dry_run {
                DryRun::Client => found.object.clone(),
                _ if patch.is_empty() => found.object.clone(),
                _ => {
                    let body = json!({"metadata": {field: patch}});
                    let path = with_query(&found.path(), &self.change.query());
                    session.change_as(Method::PATCH, &path, "application/merge-patch+json", &body).await?
                }
            };
            output::report(session, &self.change, &found.title(), &object, done)?;
        }
        Ok(0)
    }

    fn patch(
        &self,
        own: &Map<String, Value>,
        changes: &[(String, Option<String>)],
        what: &str,
    ) -> Result<(Map<String, Value>, &'static str)> {
        let mut patch = Map::new();
        let mut removed = false;
        for (key, value) in changes {
            match (own.get(key), value) {
                (None, None) => {}
                (Some(_), None) => {
                    removed = true;
                    patch.insert(key.clone(), Value::Null);
                }
                (Some(now), Some(value)) if now == value => {}
                (Some(now), Some(_)) if !self.overwrite => {
                    let now = now.as_str().unwrap_or_default();
                    return Error::usage(format!("'{key}' already has a value ({now}), and --overwrite is false"));
                }
                (_, Some(value)) => drop(patch.insert(key.clone(), value.as_str().into())),
            }
        }
        let done = match (what, patch.is_empty(), removed) {
            ("label", true, _) => "not labeled",
            ("label", _, true) => "unlabeled",
            ("label", _, false) => "labeled",
            _ => "annotated",
        };
        Ok((patch, done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_changes() {
        let words = |line: &str| line.split(' ').map(str::to_string).collect::<Vec<_>>();
        let (objects, changes) = split(&words("pod x a=b c- d.e/f=g=h"), "label").unwrap();
        assert_eq!(objects, ["pod", "x"]);
        assert_eq!(changes, [("a".into(), Some("b".into())), ("c".into(), None), ("d.e/f".into(), Some("g=h".into()))]);
        assert!(split(&words("pod x =b"), "label").is_err());
        assert!(split(&words("pod x a=b a-"), "label").is_err());
    }

    #[test]
    fn patches() {
        let own = json!({"a": "1", "b": "2"}).as_object().unwrap().clone();
        let pairs = |overwrite| Pairs { selection: Selection::default(), overwrite, list: false, change: Change::default() };
        let change = |key: &str, value: Option<&str>| vec![(key.to_string(), value.map(str::to_string))];
        for (changes, overwrite, expected) in [
            (change("a", Some("1")), false, Some((json!({}), "not labeled"))),
            (change("a", Some("2")), false, None),
            (change("a", Some("2")), true, Some((json!({"a": "2"}), "labeled"))),
            (change("a", None), false, Some((json!({"a": null}), "unlabeled"))),
            (change("z", None), false, Some((json!({}), "not labeled"))),
        ] {
            let got = pairs(overwrite).patch(&own, &changes, "label").ok();
            assert_eq!(got.map(|(patch, done)| (Value::Object(patch), done)), expected, "{changes:?}");
        }
    }
}
