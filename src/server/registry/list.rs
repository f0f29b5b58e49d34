//! LIST, in pages that show one revision.
//!
//! A page's `continue` token names the revision of the first page and the last key shown; the snapshot of that revision is kept for
//! a while ([`Pages`]), so that the next page continues it. A token whose snapshot is gone gets 410 with a token that continues at the
//! newest state, as upstream (apiserver `pkg/storage/continue.go`, `etcd3/store.go`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::filter::Filter;
use super::{KindDef, List, ListOptions, Registry};
use crate::api::{Cause, FieldError, Key, Rev, Scope, Status};
use crate::server::store::{Entry, Snapshot};

const TOKEN_VERSION: &str = "meta.k8s.io/v1";
/// Upstream's text for a token that has become too old.
const EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
    the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the \
    provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was \
    returned and now may show up in the list.";

/// A `continue` token: base64url of this as JSON.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Token {
    v: String,
    /// Revision of the list; -1: whatever is newest.
    rv: i64,
    /// The last key shown.
    start: String,
}

impl Token {
    fn encode(rv: i64, start: &Key) -> String {
        let token = Token { v: TOKEN_VERSION.into(), rv, start: start.as_str().into() };
        URL_SAFE_NO_PAD.encode(serde_json::json!(token).to_string())
    }

    /// The token with the key it continues after, which must lie in the scope that is listed.
    fn decode(text: &str, scope: &Scope) -> Result<(Token, Key), Status> {
        let invalid = |why: String| Status::bad_request(format!("continue key is not valid: {why}"));
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|error| invalid(error.to_string()))?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
        if token.v != TOKEN_VERSION {
            return Err(invalid(format!("server does not recognize this encoded version \"{}\"", token.v)));
        }
        let key = Key::parse(&token.start).filter(|key| scope.contains(key));
        let key = key.ok_or_else(|| invalid(format!("the start key \"{}\" is not in the list that it shall continue", token.start)))?;
        Ok((token, key))
    }
}

/// Snapshots that a list may still be continued on. Bounded in number and age; a snapshot shares its objects with the newest state,
/// so keeping one costs what has changed since.
#[derive(Default)]
pub(super) struct Pages {
    kept: Mutex<VecDeque<(Instant, Snapshot)>>,
}

impl Pages {
    const MOST: usize = 32;
    const LONGEST: Duration = Duration::from_secs(300);

    fn keep(&self, snapshot: &Snapshot) {
        let mut kept = self.kept.lock();
        Self::expire(&mut kept);
        kept.retain(|(_, other)| other.rev() != snapshot.rev());
        while kept.len() >= Self::MOST {
            kept.pop_front();
        }
        kept.push_back((Instant::now(), snapshot.clone()));
    }

    fn find(&self, rev: Rev) -> Option<Snapshot> {
        let mut kept = self.kept.lock();
        Self::expire(&mut kept);
        kept.iter().find(|(_, snapshot)| snapshot.rev() == rev).map(|(_, snapshot)| snapshot.clone())
    }

    fn expire(kept: &mut VecDeque<(Instant, Snapshot)>) {
        while kept.front().is_some_and(|(since, _)| since.elapsed() > Self::LONGEST) {
            kept.pop_front();
        }
    }
}

impl Registry {
    /// A list of what is not stored but made when it is asked for: all that is selected of `present`.
    pub fn select(&self, kind: &KindDef, present: Vec<Arc<Entry>>, options: &ListOptions) -> Result<List, Status> {
        let filter = Filter::new(kind, &options.labels, &options.fields)?;
        let mut items = Vec::with_capacity(present.len());
        for entry in present {
            if filter.matches(kind, &entry)? {
                items.push(entry);
            }
        }
        Ok(List { rev: Rev(0), items, continue_token: None, remaining: None })
    }

    /// LIST; `namespace` empty: all.
    pub async fn list(&self, kind: &KindDef, namespace: &str, options: &ListOptions) -> Result<List, Status> {
        let filter = Filter::new(kind, &options.labels, &options.fields)?;
        let scope = filter.scope(kind, namespace);
        let (snapshot, after) = self.open(&scope, options)?;
        let page = match kind.is_converted() {
            false => page(kind, &filter, options.limit, snapshot.selected(&scope, after.as_ref(), &options.labels))?,
            true => converted_page(kind, &filter, options.limit, &snapshot, &scope, after).await?,
        };
        let mut list = List { rev: snapshot.rev(), items: page.items, continue_token: None, remaining: None };
        if let Some(last) = page.last.filter(|_| page.more) {
            let rv = i64::try_from(snapshot.rev().0).map_err(|_| Status::internal("the revision is too large for a token"))?;
            list.continue_token = Some(Token::encode(rv, &last));
            // Upstream, too, counts only what it need not select.
            list.remaining = filter.is_empty().then(|| snapshot.range_after(&scope, &last).count());
            self.inner.pages.keep(&snapshot);
        }
        Ok(list)
    }

    /// The snapshot that a list shows, and the key after which it starts.
    fn open(&self, scope: &Scope, options: &ListOptions) -> Result<(Snapshot, Option<Key>), Status> {
        let newest = self.store().snapshot();
        let rev = options.rev.filter(|rev| rev.0 > 0);
        if let Some(text) = options.continue_token.as_deref().filter(|text| !text.is_empty()) {
            if rev.is_some() {
                return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
            }
            let (token, after) = Token::decode(text, scope)?;
            let Ok(rv) = u64::try_from(token.rv) else { return Ok((newest, Some(after))) };
            return match self.at(&newest, Rev(rv)) {
                Some(snapshot) => Ok((snapshot, Some(after))),
                None => Err(expired(&after)),
            };
        }
        if options.rev_match.is_some() && options.rev.is_none() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            return Err(Status::invalid("meta.k8s.io", "ListOptions", "", vec![FieldError::forbidden("resourceVersionMatch", why)]));
        }
        let Some(rev) = rev else { return Ok((newest, None)) };
        if rev > newest.rev() {
            return Err(too_large(rev, newest.rev()));
        }
        let exact = match options.rev_match.as_deref() {
            Some("Exact") => true,
            // Before resourceVersionMatch existed, a limited list at a revision meant exactly that one.
            None => options.limit > 0,
            Some("NotOlderThan") => false,
            Some(other) => {
                let error = FieldError::not_supported("resourceVersionMatch", other, &["Exact", "NotOlderThan", ""]);
                return Err(Status::invalid("meta.k8s.io", "ListOptions", "", vec![error]));
            }
        };
        if !exact {
            return Ok((newest, None));
        }
        let old = || Status::expired(format!("The resourceVersion for the provided list is too old: {rev}, current: {}", newest.rev()));
        Ok((self.at(&newest, rev).ok_or_else(old)?, None))
    }

    fn at(&self, newest: &Snapshot, rev: Rev) -> Option<Snapshot> {
        if newest.rev() == rev { Some(newest.clone()) } else { self.inner.pages.find(rev) }
    }
}

/// What one page shows.
#[derive(Default)]
struct Page {
    items: Vec<Arc<Entry>>,
    /// The last key shown.
    last: Option<Key>,
    /// Whether anything follows.
    more: bool,
}

/// The next page of a kind whose stored form is the served one.
fn page<'a>(kind: &KindDef, filter: &Filter, limit: usize, entries: impl Iterator<Item = &'a Arc<Entry>>) -> Result<Page, Status> {
    let mut page = Page::default();
    for entry in entries {
        if limit > 0 && page.items.len() == limit {
            page.more = true;
            break;
        }
        if filter.matches(kind, entry)? {
            page.items.push(kind.present(entry)?);
        }
    }
    page.last = page.items.last().map(|entry| entry.key.clone());
    Ok(page)
}

/// The next page of a kind that must be converted: as many at once as the page can take, since each conversion may be a call.
async fn converted_page(
    kind: &KindDef,
    filter: &Filter,
    limit: usize,
    snapshot: &Snapshot,
    scope: &Scope,
    mut after: Option<Key>,
) -> Result<Page, Status> {
    let mut page = Page::default();
    loop {
        let wanted = if limit > 0 { limit - page.items.len() } else { usize::MAX };
        let some: Vec<_> = snapshot
            .selected(scope, after.as_ref(), filter.labels())
            .filter(|entry| filter.may_match(entry))
            .take(wanted)
            .cloned()
            .collect();
        let Some(last) = some.last().map(|entry| entry.key.clone()) else { return Ok(page) };
        for served in kind.serve(some).await? {
            if filter.matches(kind, &served)? {
                page.last = Some(served.key.clone());
                page.items.push(kind.present(&served)?);
            }
        }
        let more = snapshot.selected(scope, Some(&last), filter.labels()).next().is_some();
        if !more || (limit > 0 && page.items.len() == limit) {
            page.more = more;
            return Ok(page);
        }
        after = Some(last);
    }
}

/// 410 with a token that continues at the newest state.
fn expired(after: &Key) -> Status {
    let mut status = Status::expired(EXPIRED);
    status.details.get_or_insert_default().continue_token = Some(Token::encode(-1, after));
    status
}

/// 504 for a revision that has not happened yet, as upstream's `NewTooLargeResourceVersionError`.
pub(super) fn too_large(rev: Rev, newest: Rev) -> Status {
    let mut status = Status::timeout(format!("Too large resource version: {rev}, current: {newest}"));
    let details = status.details.get_or_insert_default();
    details.retry_after_seconds = Some(1);
    details.causes =
        vec![Cause { reason: "ResourceVersionTooLarge".into(), message: "Too large resource version".into(), ..Cause::default() }];
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let (scope, key) = (Scope::resource("", "pods"), Key::new("", "pods", "ns", "a"));
        let text = Token::encode(7, &key);
        let (token, after) = Token::decode(&text, &scope).expect("a token of ours");
        assert_eq!((token.rv, after), (7, key.clone()));
        let other = Scope::resource("", "secrets");
        let foreign = |v: &str| URL_SAFE_NO_PAD.encode(format!(r#"{{"v":"{v}","rv":1,"start":"/pods/ns/a"}}"#));
        for (text, scope) in [("%%%", &scope), ("e30", &scope), (&*text, &other), (&*foreign("v0"), &scope)] {
            let status = Token::decode(text, scope).expect_err("refused");
            assert!(status.code == 400 && status.message.starts_with("continue key is not valid"), "{status:?}");
        }
        let status = expired(&key);
        let body: serde_json::Value = serde_json::from_slice(&status.to_json()).expect("JSON");
        let fresh = body["metadata"]["continue"].as_str().expect("a fresh token");
        assert_eq!(Token::decode(fresh, &scope).expect("valid").0.rv, -1);
        assert_eq!(body["code"], 410);
    }
}
