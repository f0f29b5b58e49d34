//! How long a request may take.
//!
//! Follows upstream's `endpoints/filters/request_deadline.go` (`?timeout=`), `server/filters/timeout.go` and
//! `endpoints/handlers/finisher/finisher.go` for the words.

use std::time::Duration;

use super::query::Query;
use crate::api::Status;
use crate::api::duration::go_duration;

/// How long a request may take: what it asks for, up to `most`.
pub(super) fn deadline(query: &Query, most: Duration) -> Result<Duration, Status> {
    match query.first("timeout").filter(|text| !text.is_empty()) {
        None => Ok(most),
        Some(text) => match go_duration(text) {
            Ok(asked) if asked.is_zero() => Ok(most),
            Ok(asked) => Ok(asked.min(most)),
            Err(why) => Err(Status::bad_request(format!("invalid timeout specified in the request URL - {why}"))),
        },
    }
}

/// The answer when it took longer.
pub(super) fn timed_out(mutating: bool) -> Status {
    // Whoever writes, waits for the write itself upstream; readers are cut off by a filter around them.
    Status::timeout(match mutating {
        true => "Timeout: request did not complete within requested timeout - context deadline exceeded",
        false => "Timeout: request did not complete within the allotted timeout",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines() {
        let most = Duration::from_secs(60);
        for (query, want) in [("", 60), ("timeout=5s", 5), ("timeout=2h", 60), ("timeout=0s", 60), ("timeout=", 60)] {
            assert_eq!(deadline(&Query::parse(query), most).unwrap(), Duration::from_secs(want), "{query}");
        }
        let refused = deadline(&Query::parse("timeout=soon"), most).unwrap_err();
        assert_eq!(
            (refused.code, refused.message.as_str()),
            (400, "invalid timeout specified in the request URL - time: invalid duration \"soon\"")
        );
    }
}
