//! Three machines, two on one link and one behind a router.

use crate::skip;
use crate::support::bed::Logs;
use crate::support::hosts::Hosts;
use crate::support::scenarios::{cluster, nodes};

#[test]
fn pods_services_and_names_across_machines() {
    if let Some(reason) = Hosts::missing() {
        skip!("{reason}");
    }
    let bed = Hosts::new(2, 1);
    let _logs = Logs(&bed);
    cluster::serve(&bed, "");
    nodes::run(&bed, "");
}
