//! Credentials in requests: taken out once they were looked at, so that nothing behind the API ever sees them.
//!
//! Browsers can't set `Authorization` on a WebSocket; for them a token may be one of the subprotocols. Follows upstream's
//! `apiserver/pkg/authentication/request/{bearertoken,websocket}` and the filters that remove what they have read.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue};

const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Moves a token among the WebSocket subprotocols to where tokens are looked for.
pub(super) fn from_protocols(headers: &mut HeaderMap) {
    let upgrade = headers.get(UPGRADE).and_then(|v| v.to_str().ok()).is_some_and(|v| v.eq_ignore_ascii_case("websocket"));
    if !upgrade || headers.contains_key(AUTHORIZATION) {
        return;
    }
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let protocols: Vec<String> = lines.flat_map(|line| line.split(',')).map(|word| word.trim().to_owned()).collect();
    let (tokens, others): (Vec<&String>, Vec<&String>) = protocols.iter().partition(|protocol| protocol.starts_with(TOKEN_PROTOCOL));
    // One token, and another protocol: the token's can't be the one that is chosen.
    let [token] = tokens.as_slice() else { return };
    let decoded = URL_SAFE_NO_PAD.decode(token[TOKEN_PROTOCOL.len()..].trim_end_matches('=')).ok().and_then(|b| String::from_utf8(b).ok());
    let header = decoded.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
    let rest = others.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(", ");
    if let (Some(mut header), Ok(rest), false) = (header, HeaderValue::from_str(&rest), others.is_empty()) {
        header.set_sensitive(true);
        headers.insert(AUTHORIZATION, header);
        headers.insert(SEC_WEBSOCKET_PROTOCOL, rest);
    }
}

/// Removes credentials and wishes to act as others.
pub(super) fn remove(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    let wishes: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in wishes {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_among_protocols() {
        let encoded = URL_SAFE_NO_PAD.encode("s3cret");
        let token = format!("{TOKEN_PROTOCOL}{encoded}");
        for (protocols, want) in [
            (format!("v5.channel.k8s.io, {token}"), Some(("Bearer s3cret", "v5.channel.k8s.io"))),
            (token.clone(), None),
            (format!("{token}, {token}, a"), None),
            ("a, b".into(), None),
            (format!("a, {TOKEN_PROTOCOL}!"), None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocols.parse().unwrap());
            from_protocols(&mut headers);
            let text = |name| headers.get(name).map(|v: &HeaderValue| v.to_str().unwrap());
            assert_eq!(text(AUTHORIZATION).zip(text(SEC_WEBSOCKET_PROTOCOL)), want, "{protocols}");
        }
        let mut plain = HeaderMap::new();
        plain.insert(SEC_WEBSOCKET_PROTOCOL, format!("a, {token}").parse().unwrap());
        from_protocols(&mut plain);
        assert!(!plain.contains_key(AUTHORIZATION), "without an upgrade it is a header like any other");
    }

    #[test]
    fn nothing_is_left() {
        let mut headers = HeaderMap::new();
        for name in ["authorization", "impersonate-user", "impersonate-extra-a", "accept"] {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        remove(&mut headers);
        assert_eq!(headers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["accept"]);
    }
}
