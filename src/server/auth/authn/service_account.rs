//! Service account tokens: bound ones, and the older ones that are kept in Secrets.
//!
//! A bound token dies with its account and with what it is bound to; a *legacy* token with its Secret, whose copy it must equal.
//!
//! Follows upstream's `pkg/serviceaccount/{claims,legacy,jwt}.go`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::lookup::Lookup;
use super::super::token::{Claims, LEEWAY, LegacyClaims, Reference, TokenError, TokenKey, Verified};
use super::{AuthnError, Identity, LegacyUse, authenticated, same_secret};
use crate::server::registry::User;

/// On a Secret whose token is refused although it is right.
pub const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// On a Secret: the day (UTC) of the last use of its token.
pub const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const AUTO_GENERATED: &str =
    "Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated secret-based tokens.";

/// Who holds the token. `None`: it is not of this issuer.
pub fn authenticate(
    key: &TokenKey,
    token: &str,
    audiences: &[String],
    state: &impl Lookup,
    now: i64,
) -> Result<Option<Identity>, AuthnError> {
    let Some(verified) = key.verify(token)? else { return Ok(None) };
    match &*verified {
        Verified::Bound(claims) => {
            let shared: Vec<String> = claims.aud.iter().filter(|aud| audiences.contains(aud)).cloned().collect();
            if shared.is_empty() {
                return Err(TokenError::Audience { token: claims.aud.clone(), wanted: audiences.to_vec() }.into());
            }
            Ok(Some(Identity { audiences: shared, ..bound(claims, state, now)? }))
        }
        Verified::Legacy(claims) => {
            // A legacy token names no audience: it is for this server.
            if !audiences.iter().any(|audience| audience == key.issuer()) {
                return Err(TokenError::Audience { token: vec![key.issuer().into()], wanted: audiences.to_vec() }.into());
            }
            Ok(Some(Identity { audiences: vec![key.issuer().into()], ..legacy(claims, token, state, now)? }))
        }
    }
}

/// Whether an object counts as there: one that is being deleted does until its time, and a little longer.
fn alive(meta: &ObjectMeta, now: i64) -> bool {
    meta.deletion_timestamp.as_ref().is_none_or(|time| time.0.as_second() >= now - LEEWAY)
}

fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

fn account(namespace: &str, reference: &Reference, state: &impl Lookup, now: i64) -> Result<std::sync::Arc<ServiceAccount>, TokenError> {
    let Reference { name, uid: claimed } = reference;
    let found = state.get::<ServiceAccount>(namespace, name).ok_or_else(|| TokenError::NoAccount(name.clone()))?;
    if !alive(&found.metadata, now) {
        return Err(TokenError::Account(format!("service account {namespace}/{name} has been deleted")));
    }
    let present = uid(&found.metadata);
    if present != claimed {
        return Err(TokenError::Account(format!("service account UID ({present}) does not match claim ({claimed})")));
    }
    Ok(found)
}

/// Checks an object that the token is bound to; `claim` ends the message when there is another of that name.
fn bound_to(meta: Option<&ObjectMeta>, reference: &Reference, claim: &str, now: i64) -> Result<(), TokenError> {
    let meta = meta.filter(|meta| alive(meta, now)).ok_or(TokenError::Invalidated)?;
    match uid(meta) == reference.uid {
        true => Ok(()),
        false => {
            let (present, claimed) = (uid(meta), &reference.uid);
            Err(TokenError::Account(format!("{claim} UID ({present}) does not match service account {claim} ref claim ({claimed})")))
        }
    }
}

fn user(namespace: &str, account: &Reference, extra: BTreeMap<String, Vec<String>>) -> User {
    authenticated(User {
        name: format!("system:serviceaccount:{namespace}:{}", account.name),
        uid: account.uid.clone(),
        groups: vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")],
        extra,
    })
}

fn bound(claims: &Claims, state: &impl Lookup, now: i64) -> Result<Identity, TokenError> {
    if now > claims.exp + LEEWAY {
        return Err(TokenError::Expired);
    }
    if now + LEEWAY < claims.nbf || now + LEEWAY < claims.iat {
        return Err(TokenError::NotYet);
    }
    let private = &claims.private;
    let namespace = private.namespace.as_str();
    account(namespace, &private.serviceaccount, state, now)?;
    let mut extra = BTreeMap::new();
    let mut say = |what: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(format!("authentication.kubernetes.io/{what}"), vec![value.to_owned()]);
        }
    };
    if let Some(secret) = &private.secret {
        bound_to(state.get::<Secret>(namespace, &secret.name).as_ref().map(|o| &o.metadata), secret, "secret", now)?;
    }
    if let Some(pod) = &private.pod {
        bound_to(state.get::<Pod>(namespace, &pod.name).as_ref().map(|o| &o.metadata), pod, "pod", now)?;
        say("pod-name", &pod.name);
        say("pod-uid", &pod.uid);
    }
    if let Some(node) = &private.node {
        // Of a token bound to a pod the node is only information; the pod dies with its node anyway.
        if private.pod.is_none() {
            bound_to(state.get::<Node>("", &node.name).as_ref().map(|o| &o.metadata), node, "node", now)?;
        }
        say("node-name", &node.name);
        say("node-uid", &node.uid);
    }
    if !claims.jti.is_empty() {
        say("credential-id", &format!("JTI={}", claims.jti));
    }
    let mut identity = Identity::from(user(namespace, &private.serviceaccount, extra));
    if private.warnafter.is_some_and(|time| time != 0 && now > time) {
        let late = now - private.warnafter.unwrap_or_default();
        let text = format!("subject: {}, seconds after warning threshold: {late}", claims.sub);
        identity.annotations.push(("authentication.k8s.io/stale-token".into(), text));
    }
    Ok(identity)
}

fn legacy(claims: &LegacyClaims, token: &str, state: &impl Lookup, now: i64) -> Result<Identity, TokenError> {
    let claim = |value: &str, missing: &'static str| if value.is_empty() { Err(TokenError::Claim(missing)) } else { Ok(()) };
    claim(&claims.sub, "sub claim is missing")?;
    claim(&claims.namespace, "namespace claim is missing")?;
    claim(&claims.secret, "secretName claim is missing")?;
    claim(&claims.account, "serviceAccountName claim is missing")?;
    claim(&claims.uid, "serviceAccountUID claim is missing")?;
    let LegacyClaims { namespace, account: name, secret: secret_name, .. } = claims;
    if claims.sub != format!("system:serviceaccount:{namespace}:{name}") {
        return Err(TokenError::Claim("sub claim is invalid"));
    }
    let secret = state.get::<Secret>(namespace, secret_name).filter(|s| s.metadata.deletion_timestamp.is_none());
    let secret = secret.ok_or(TokenError::LegacyInvalidated)?;
    let copy = secret.data.as_ref().and_then(|data| data.get("token")).map(|copy| copy.0.as_slice()).unwrap_or_default();
    if !same_secret(copy, token.as_bytes()) {
        return Err(TokenError::OtherCopy);
    }
    let reference = Reference { name: name.clone(), uid: claims.uid.clone() };
    let owner = account(namespace, &reference, state, now)?;
    if secret.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(INVALID_SINCE)) {
        return Err(TokenError::Marked { namespace: namespace.clone(), secret: secret_name.clone(), account: name.clone() });
    }
    let mut identity = Identity::from(user(namespace, &reference, BTreeMap::new()));
    if owner.secrets.iter().flatten().any(|reference| reference.name.as_deref() == Some(secret_name)) {
        identity.warnings.push(AUTO_GENERATED.into());
        identity.annotations.push(("authentication.k8s.io/legacy-token-autogenerated-secret".into(), secret_name.clone()));
    } else {
        identity.annotations.push(("authentication.k8s.io/legacy-token-manual-secret".into(), secret_name.clone()));
    }
    identity.legacy = Some(LegacyUse { namespace: namespace.clone(), secret: secret_name.clone() });
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::super::super::lookup::memory::Memory;
    use super::super::super::token::tests::{claims, key};
    use super::*;

    const ACCOUNT: &str = "{metadata: {namespace: default, name: web, uid: u-sa}}";
    const POD: &str = "{metadata: {namespace: default, name: p, uid: u-p}}";

    #[test]
    fn bound_tokens() {
        let key = key();
        let ours = [key.issuer().to_owned()];
        let bound = |pod: &str| {
            let mut claims = claims();
            claims.private.pod = Some(Reference { name: "p".into(), uid: pod.into() });
            claims.private.node = Some(Reference { name: "n".into(), uid: "u-n".into() });
            claims.private.warnafter = Some(1200);
            key.sign(claims).unwrap().0
        };
        let full = || Memory::default().with::<ServiceAccount>(ACCOUNT).with::<Pod>(POD);
        let ask = |token: &str, state: &Memory, now: i64| authenticate(&key, token, &ours, state, now).map_err(|error| error.to_string());
        let identity = ask(&bound("u-p"), &full(), 1500).unwrap().unwrap();
        assert_eq!(identity.user.name, "system:serviceaccount:default:web");
        assert_eq!(identity.user.groups, ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]);
        let extra = |what: &str| identity.user.extra[&format!("authentication.kubernetes.io/{what}")][0].clone();
        assert_eq!([extra("pod-name"), extra("pod-uid"), extra("node-name"), extra("node-uid")], ["p", "u-p", "n", "u-n"]);
        assert!(extra("credential-id").starts_with("JTI="));
        assert_eq!(
            identity.annotations,
            [(
                "authentication.k8s.io/stale-token".to_owned(),
                "subject: system:serviceaccount:default:web, seconds after warning threshold: 300".to_owned()
            )]
        );
        let only_account = || Memory::default().with::<ServiceAccount>(ACCOUNT);
        let dying = |time: &str| {
            only_account().with::<Pod>(&format!("{{metadata: {{namespace: default, name: p, uid: u-p, deletionTimestamp: '{time}'}}}}"))
        };
        for (token, state, now, want) in [
            (bound("u-p"), only_account(), 1500, "service account token has been invalidated"),
            (bound("other"), full(), 1500, "pod UID (u-p) does not match service account pod ref claim (other)"),
            (bound("u-p"), Memory::default().with::<Pod>(POD), 1500, "serviceaccounts \"web\" not found"),
            (bound("u-p"), dying("1970-01-01T00:20:00Z"), 1500, "service account token has been invalidated"),
            (bound("u-p"), full(), 2061, "service account token has expired"),
            (bound("u-p"), full(), 900, "service account token is not valid yet"),
        ] {
            assert_eq!(ask(&token, &state, now), Err(want.to_owned()), "at {now}");
        }
        assert!(ask(&bound("u-p"), &dying("1970-01-01T00:24:30Z"), 1500).is_ok(), "within the leeway");
        assert!(ask(&bound("u-p"), &full(), 2059).is_ok(), "within the leeway");
        let other = authenticate(&key, &bound("u-p"), &["vault".to_owned()], &full(), 1500).unwrap_err().to_string();
        let want = "token audiences [\"https://kubernetes.default.svc.cluster.local\"] is invalid for the target audiences [\"vault\"]";
        assert_eq!(other, want);
    }

    #[test]
    fn tokens_in_secrets() {
        let key = key();
        let ours = [key.issuer().to_owned()];
        let token = key.sign_legacy("default", "web", "u-sa", "old").unwrap();
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &token);
        let state = |more: &str, account: &str| {
            Memory::default()
                .with::<ServiceAccount>(account)
                .with::<Secret>(&format!("{{metadata: {{namespace: default, name: old{more}}}, data: {{token: {encoded}}}}}"))
        };
        let ask = |state: &Memory| authenticate(&key, &token, &ours, state, 1500).map_err(|error| error.to_string());
        let identity = ask(&state("", ACCOUNT)).unwrap().unwrap();
        assert_eq!(identity.user.name, "system:serviceaccount:default:web");
        assert_eq!(identity.legacy.as_ref().map(|l| l.secret.as_str()), Some("old"));
        assert!(identity.warnings.is_empty());
        let listed = "{metadata: {namespace: default, name: web, uid: u-sa}, secrets: [{name: old}]}";
        assert_eq!(ask(&state("", listed)).unwrap().unwrap().warnings, [AUTO_GENERATED]);
        assert_eq!(ask(&Memory::default().with::<ServiceAccount>(ACCOUNT)), Err("Token has been invalidated".into()));
        let marked = ask(&state(", labels: {kubernetes.io/legacy-token-invalid-since: x}", ACCOUNT)).unwrap_err();
        assert!(marked.contains("has been marked invalid"), "{marked}");
        let other = "{metadata: {namespace: default, name: web, uid: new}}";
        assert_eq!(ask(&state("", other)), Err("service account UID (new) does not match claim (u-sa)".into()));
    }
}
