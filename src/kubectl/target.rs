//! How words on the command line name objects: `pods`, `pods a b`, `pod/a deploy/b`, `pods,svc -l x=y`.
//!
//! Follows cli-runtime `pkg/resource/builder.go`, its messages included.

use super::catalog::Resource;
use super::error::{Error, Result};
use super::session::Session;

/// What the words say, before the server is asked what they mean.
#[derive(Debug, PartialEq, Eq)]
pub enum Words {
    /// All objects of these types.
    Types(Vec<String>),
    /// Single objects: type and name.
    Names(Vec<(String, String)>),
}

/// Reads the words. None at all is an error.
pub fn parse(words: &[String]) -> Result<Words> {
    if words.is_empty() {
        return Error::usage("you must specify the type of resource, such as `pods`; see `kubectl api-resources` for a list");
    }
    if words.iter().any(|word| word.contains('/')) {
        return words.iter().map(|word| pair(word, words)).collect::<Result<Vec<_>>>().map(Words::Names);
    }
    let types: Vec<String> = words[0].split(',').map(str::to_string).collect();
    if types.iter().any(String::is_empty) {
        return Error::usage(format!("resource types in {:?} must not be empty", words[0]));
    }
    if words.len() == 1 {
        return Ok(Words::Types(types));
    }
    let names = words[1..].iter();
    Ok(Words::Names(names.flat_map(|name| types.iter().map(|kind| (kind.clone(), name.clone()))).collect()))
}

fn pair(word: &str, words: &[String]) -> Result<(String, String)> {
    let Some((kind, name)) = word.split_once('/') else {
        if word == words[0] {
            return Error::usage(
                "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. \
                 'kubectl get resource/<resource_name>' instead of 'kubectl get resource resource/<resource_name>'",
            );
        }
        return Error::usage(format!("arguments in resource/name form must be in resource/name form only: {word:?}"));
    };
    if name.contains('/') {
        return Error::usage("arguments in resource/name form may not have more than one slash");
    }
    if kind.is_empty() || name.is_empty() || kind.contains(',') || name.contains(',') {
        return Error::usage("arguments in resource/name form must have a single resource and name");
    }
    Ok((kind.to_string(), name.to_string()))
}

/// A resource, or one object of it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Of which resource.
    pub resource: Resource,
    /// Where; `None`: in all namespaces, or in none.
    pub namespace: Option<String>,
    /// Which; `None`: all.
    pub name: Option<String>,
}

impl Target {
    /// Its address.
    pub fn path(&self) -> String {
        self.resource.path(self.namespace.as_deref(), self.name.as_deref())
    }
}

/// Looks the words up in the catalog.
pub async fn resolve(session: &Session, words: &[String], all_namespaces: bool) -> Result<Vec<Target>> {
    let parsed = parse(words)?;
    let catalog = session.catalog().await?;
    let namespace = session.namespace().await?;
    let place = |resource: &Resource| Some(namespace.clone()).filter(|_| resource.namespaced && !all_namespaces);
    match parsed {
        Words::Types(types) => {
            let mut targets = Vec::new();
            for word in &types {
                let found = catalog.expand(word)?.into_iter().cloned();
                targets.extend(found.map(|resource| Target { namespace: place(&resource), name: None, resource }));
            }
            Ok(targets)
        }
        Words::Names(_) if all_namespaces => Error::usage("a resource cannot be retrieved by name across all namespaces"),
        Words::Names(names) => {
            let target = |(word, name): (String, String)| {
                let resource = catalog.resolve(&word)?.clone();
                Ok(Target { namespace: place(&resource), name: Some(name), resource })
            };
            names.into_iter().map(target).collect()
        }
    }
}

/// One object, where exactly one must be named; a lone name is of type `default`.
pub async fn single(session: &Session, words: &[String], default: &str) -> Result<Target> {
    let words = match words {
        [name] if !name.contains('/') => vec![format!("{default}/{name}")],
        words => words.to_vec(),
    };
    let mut targets = resolve(session, &words, false).await?;
    match (targets.pop(), targets.is_empty()) {
        (Some(target), true) if target.name.is_some() => Ok(target),
        _ => Error::usage("expected exactly one object, as TYPE/NAME"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_string).collect()
    }

    #[test]
    fn words_are_types_or_names() {
        let names = |pairs: &[(&str, &str)]| Words::Names(pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect());
        for (line, expected) in [
            ("pods", Words::Types(words("pods"))),
            ("pods,svc", Words::Types(words("pods svc"))),
            ("pod a b", names(&[("pod", "a"), ("pod", "b")])),
            ("pod,svc a", names(&[("pod", "a"), ("svc", "a")])),
            ("pod/a deploy.apps/b", names(&[("pod", "a"), ("deploy.apps", "b")])),
        ] {
            assert_eq!(parse(&words(line)).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn words_that_make_no_sense() {
        for (line, part) in [
            ("", "you must specify the type of resource"),
            ("pods pod/a", "there is no need to specify a resource type as a separate argument"),
            ("pod/a/b", "may not have more than one slash"),
            ("pod/", "must have a single resource and name"),
            ("pod,svc/a", "must have a single resource and name"),
            ("pod/a b", "resource/name form only"),
            ("pods,,svc", "must not be empty"),
        ] {
            let error = parse(&words(line)).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[tokio::test]
    async fn lone_names_have_a_default_type() {
        let (session, _) = crate::kubectl::support::session(&[]);
        assert_eq!(single(&session, &words("x"), "pods").await.unwrap().path(), "/api/v1/namespaces/default/pods/x");
        assert_eq!(single(&session, &words("deploy x"), "pods").await.unwrap().path(), "/apis/apps/v1/namespaces/default/deployments/x");
        assert!(single(&session, &words("pods"), "pods").await.is_ok());
        assert!(single(&session, &words("pod/a pod/b"), "pods").await.is_err());
    }
}
