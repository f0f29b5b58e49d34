//! How many seats a request takes.
//!
//! Follows upstream's `util/flowcontrol/request` (`list_work_estimator.go`, `mutating_work_estimator.go`): a list is as wide as what it
//! sends, a write goes on costing after its end what its watchers make of it, everything else is one seat.

use super::queue::Width;
use super::schema::Digest;
use crate::server::store::Size;

/// Bytes of a list per seat, and the bytes at which it grows no wider (it is streamed).
const BYTES_PER_SEAT: u64 = 100_000;
const WIDEST_BYTES: u64 = 1_000_000;
/// Watchers per seat of a write, and for how long each seat is held, in seconds.
const WATCHES_PER_SEAT: u32 = 10;
const SECONDS_PER_SEAT: f64 = 0.005;
/// Seats that a write holds after its end, at most.
const WIDEST_WRITE: u32 = 10;

/// An estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Seats while it runs.
    pub seats: u32,
    /// Seats held after its end.
    pub after: u32,
    /// For how long, in seconds.
    pub hold: f64,
}

impl Estimate {
    /// As the queues count it.
    pub fn width(&self) -> Width {
        Width { seats: self.seats, after: f64::from(self.after) * self.hold }
    }
}

/// Whether the request changes something.
pub fn is_mutating(verb: &str) -> bool {
    !["get", "list", "watch", "head", "options", "proxy"].contains(&verb)
}

/// Estimates. `most` is the level's bound; `size` says how much there is of the request's resource, `watchers` how many listen.
pub fn estimate(
    request: &Digest<'_>,
    limit: Option<u64>,
    initial_events: bool,
    most: u32,
    size: impl FnOnce() -> Size,
    watchers: impl FnOnce() -> u32,
) -> Estimate {
    let most = most.max(1);
    let one = Estimate { seats: 1, after: 0, hold: 0.0 };
    match request.verb {
        _ if !request.is_resource => one,
        // One by name is a get.
        "list" if !request.name.is_empty() => one,
        "watch" if !initial_events => one,
        "list" | "watch" => {
            let Size { objects, bytes } = size();
            let sent = match limit {
                Some(limit) if request.verb == "list" && limit > 0 && limit < objects => bytes / objects.max(1) * limit,
                _ => bytes,
            };
            let seats = u32::try_from(sent.min(WIDEST_BYTES).div_ceil(BYTES_PER_SEAT)).unwrap_or(most);
            Estimate { seats: seats.clamp(1, most), ..one }
        }
        // Of these nothing is written that could be watched.
        "create" if request.subresource == "token" => one,
        "create" if ["authentication.k8s.io", "authorization.k8s.io"].contains(&request.group) => one,
        "create" | "update" | "patch" | "delete" => {
            let watchers = watchers();
            if watchers < WATCHES_PER_SEAT {
                return one;
            }
            // The work stays the same when it is spread over fewer seats.
            let wanted = watchers.div_ceil(WATCHES_PER_SEAT);
            let after = wanted.min(most).min(WIDEST_WRITE);
            Estimate { seats: 1, after, hold: SECONDS_PER_SEAT * f64::from(wanted) / f64::from(after) }
        }
        _ => one,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::registry::User;

    #[test]
    fn widths() {
        let user = User::default();
        let pods = Digest {
            user: &user,
            verb: "",
            is_resource: true,
            group: "",
            resource: "pods",
            subresource: "",
            namespace: "",
            name: "",
            path: "",
        };
        let size = Size { objects: 1000, bytes: 2_000_000 };
        for (verb, name, limit, initial, watchers, seats, after) in [
            ("get", "a", None, false, 0, 1, 0),
            ("list", "", None, false, 0, 10, 0),
            ("list", "a", None, false, 0, 1, 0),
            ("list", "", Some(100), false, 0, 2, 0),
            ("list", "", Some(5000), false, 0, 10, 0),
            ("watch", "", None, false, 0, 1, 0),
            ("watch", "", None, true, 0, 10, 0),
            ("create", "", None, false, 9, 1, 0),
            ("update", "a", None, false, 35, 1, 4),
            ("delete", "a", None, false, 1000, 1, 10),
            ("deletecollection", "", None, false, 1000, 1, 0),
        ] {
            let got = estimate(&Digest { verb, name, ..pods }, limit, initial, 15, || size, || watchers);
            assert_eq!((got.seats, got.after), (seats, after), "{verb} {name:?} {limit:?}");
            assert!((got.width().after - f64::from(watchers.div_ceil(10)) * 0.005).abs() < 1e-9 || after == 0, "{got:?}");
        }
        let narrow = estimate(&Digest { verb: "list", ..pods }, None, false, 3, || size, || 0);
        assert_eq!(narrow.seats, 3, "no wider than its level allows");
        let review = Digest { verb: "create", group: "authorization.k8s.io", ..pods };
        assert_eq!(estimate(&review, None, false, 15, || size, || 100).after, 0);
    }
}
