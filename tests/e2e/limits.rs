//! What pods may have, on the groups of this machine.

use crate::skip;
use crate::support::bed::Logs;
use crate::support::hosts::Hosts;
use crate::support::scenarios::{cluster, limits, resize};

#[test]
fn limits_are_as_upstreams_and_are_felt() {
    if let Some(reason) = Hosts::missing() {
        skip!("{reason}");
    }
    let bed = Hosts::new(1, 0);
    let _logs = Logs(&bed);
    cluster::serve(&bed, limits::FLAGS);
    limits::run(&bed);
}

#[test]
fn pods_that_run_are_resized() {
    if let Some(reason) = Hosts::missing() {
        skip!("{reason}");
    }
    let bed = Hosts::new(1, 0);
    let _logs = Logs(&bed);
    cluster::serve(&bed, "");
    resize::run(&bed);
}
