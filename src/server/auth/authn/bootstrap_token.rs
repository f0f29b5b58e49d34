//! Bootstrap tokens: `ID.SECRET`, kept in Secrets `bootstrap-token-ID` of kube-system, for nodes that join.
//!
//! Follows upstream's `plugin/pkg/auth/authenticator/token/bootstrap`.

use k8s_openapi::api::core::v1::Secret;

use super::super::lookup::Lookup;
use super::same_secret;
use crate::server::registry::User;

/// The type of such Secrets.
pub const TYPE: &str = "bootstrap.kubernetes.io/token";
/// Where they are.
pub const NAMESPACE: &str = "kube-system";
/// Names of such Secrets begin so; the token's ID follows.
pub const PREFIX: &str = "bootstrap-token-";
const GROUP: &str = "system:bootstrappers";
/// Most groups that one token adds.
const MAX_GROUPS: usize = 64;

/// A field of such a Secret.
pub fn text<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    secret.data.as_ref()?.get(key).and_then(|value| std::str::from_utf8(&value.0).ok())
}

/// When the token ends (Unix time); `None`: never. A time that can't be read has passed.
pub fn expiration(secret: &Secret) -> Option<i64> {
    let text = text(secret, "expiration").filter(|text| !text.is_empty())?;
    Some(text.parse::<jiff::Timestamp>().map_or(i64::MIN, |time| time.as_second()))
}

fn split(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let legal = |part: &str, length: usize| part.len() == length && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (legal(id, 6) && legal(secret, 16)).then_some((id, secret))
}

/// The groups of `auth-extra-groups`; `None` if one is not for bootstrap tokens.
fn groups(text: &str) -> Option<Vec<String>> {
    let mut found = vec![GROUP.to_owned()];
    for group in text.split(',').filter(|_| !text.is_empty()) {
        let rest = group.strip_prefix("system:bootstrappers:")?;
        let legal = !rest.is_empty()
            && rest.len() <= 256
            && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b":-".contains(&b))
            && !rest.ends_with([':', '-']);
        if !legal || found.len() > MAX_GROUPS {
            return None;
        }
        if !found.iter().any(|known| known == group) {
            found.push(group.to_owned());
        }
    }
    found.sort();
    Some(found)
}

/// Whose token this is, if it is a bootstrap token that is good at `now` (Unix time).
pub fn user(token: &str, state: &impl Lookup, now: i64) -> Option<User> {
    let (id, given) = split(token)?;
    let secret = state.get::<Secret>(NAMESPACE, &format!("{PREFIX}{id}"))?;
    let refused = |why: &str| {
        tracing::info!(id, why, "refused a bootstrap token");
        None
    };
    if secret.metadata.deletion_timestamp.is_some() {
        return refused("it is being deleted");
    }
    if secret.type_.as_deref() != Some(TYPE) || text(&secret, "token-id") != Some(id) {
        return refused("its Secret is of another type or token");
    }
    if !same_secret(text(&secret, "token-secret").unwrap_or_default().as_bytes(), given.as_bytes()) {
        return refused("its second half is wrong");
    }
    if expiration(&secret).is_some_and(|time| now >= time) {
        return refused("it has expired");
    }
    if text(&secret, "usage-bootstrap-authentication") != Some("true") {
        return refused("it is not for authentication");
    }
    match groups(text(&secret, "auth-extra-groups").unwrap_or_default()) {
        Some(groups) => Some(User { name: format!("system:bootstrap:{id}"), groups, ..User::default() }),
        None => refused("it names a group that is not for bootstrap tokens"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::lookup::memory::Memory;
    use super::*;
    use base64::Engine;

    fn secret(fields: &[(&str, &str)]) -> Memory {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let defaults = [("token-id", "abcdef"), ("token-secret", "0123456789abcdef"), ("usage-bootstrap-authentication", "true")];
        let merged: std::collections::BTreeMap<_, _> = defaults.iter().chain(fields).map(|(key, value)| (*key, encode(value))).collect();
        let data = serde_json::to_string(&merged).unwrap();
        Memory::default()
            .with::<Secret>(&format!("{{metadata: {{namespace: kube-system, name: bootstrap-token-abcdef}}, type: {TYPE}, data: {data}}}"))
    }

    #[test]
    fn who_may_join() {
        const GOOD: &str = "abcdef.0123456789abcdef";
        /// Fields that differ, the token, and its bearer's groups.
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, Option<&'a [&'a str]>);
        let table: &[Case] = &[
            (&[], GOOD, Some(&["system:bootstrappers"])),
            (
                &[("auth-extra-groups", "system:bootstrappers:b,system:bootstrappers:a")],
                GOOD,
                Some(&["system:bootstrappers", "system:bootstrappers:a", "system:bootstrappers:b"]),
            ),
            (&[("auth-extra-groups", "system:masters")], GOOD, None),
            (&[("expiration", "1970-01-01T00:30:00Z")], GOOD, Some(&["system:bootstrappers"])),
            (&[("expiration", "1970-01-01T00:10:00Z")], GOOD, None),
            (&[("expiration", "soon")], GOOD, None),
            (&[("usage-bootstrap-authentication", "no")], GOOD, None),
            (&[("token-id", "other1")], GOOD, None),
            (&[], "abcdef.0123456789abcdeg", None),
            (&[], "ABCDEF.0123456789abcdef", None),
            (&[], "abcdef.short", None),
        ];
        for (fields, token, want) in table {
            let user = user(token, &secret(fields), 1000);
            assert_eq!(
                user.as_ref().map(|user| user.groups.iter().map(String::as_str).collect::<Vec<_>>()).as_deref(),
                *want,
                "{fields:?} {token}"
            );
            assert!(user.is_none_or(|user| user.name == "system:bootstrap:abcdef"));
        }
    }
}
