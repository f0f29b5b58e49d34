//! What an answer that is no success says, in the words of upstream's REST client (client-go `rest/request.go`, apimachinery
//! `api/errors.NewGenericServerResponse`).

use serde::Deserialize;

/// As much of a foreign answer as is repeated in a message.
const MOST_SHOWN: usize = 2048;

/// A Status in the body, as far as it is of use here.
#[derive(Deserialize)]
struct Sent {
    kind: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    message: String,
}

/// The message for an answer of `code` with this body.
pub(super) fn refusal(code: u16, body: &[u8]) -> String {
    if let Ok(sent) = serde_json::from_slice::<Sent>(body)
        && sent.kind == "Status"
        && sent.status == "Failure"
        && !sent.message.is_empty()
    {
        return sent.message;
    }
    let shown = String::from_utf8_lossy(&body[..body.len().min(MOST_SHOWN)]);
    let shown = match shown.trim() {
        "" => "unknown",
        text => text,
    };
    match code {
        400 => "the server rejected our request for an unknown reason".into(),
        401 => "the server has asked for the client to provide credentials".into(),
        403 | 406 | 415 => shown.into(),
        404 => "the server could not find the requested resource".into(),
        405 => "the server does not allow this method on the requested resource".into(),
        409 => "the server reported a conflict".into(),
        422 => "the server rejected our request due to an error in our request".into(),
        429 => "the server has received too many requests and has asked us to try again later".into(),
        503 => "the server is currently unable to handle the request".into(),
        504 => "the server was unable to return a response in the time allotted, but may still be processing the request".into(),
        500.. => format!("an error on the server ({shown:?}) has prevented the request from succeeding"),
        _ => format!("the server responded with the status code {code} but did not return more information"),
    }
}

#[cfg(test)]
mod tests {
    use super::refusal;

    #[test]
    fn refusals_read_as_upstreams() {
        for (code, body, want) in [
            (404, "404 page not found", "the server could not find the requested resource"),
            (500, "oh no\n", "an error on the server (\"oh no\") has prevented the request from succeeding"),
            (502, "", "an error on the server (\"unknown\") has prevented the request from succeeding"),
            (301, "", "the server responded with the status code 301 but did not return more information"),
            (403, "not you", "not you"),
            (409, r#"{"kind":"Status","status":"Failure","message":"taken"}"#, "taken"),
            (409, r#"{"kind":"Other","status":"Failure","message":"taken"}"#, "the server reported a conflict"),
        ] {
            assert_eq!(refusal(code, body.as_bytes()), want, "{code} {body}");
        }
    }
}
