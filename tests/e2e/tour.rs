//! What `make run` does, in a private host.

use std::process::Command;

use crate::skip;
use crate::support::host::checked;
use crate::support::{cluster, missing};

#[test]
fn the_tour_shows_an_answer() {
    if let Some(reason) = missing(&["bash", "unshare", "timeout", "ip", "curl"]) {
        skip!("{reason}");
    }
    let dir = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/tour");
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "120", script, "--isolated", "--once", cluster::ORCH]).env("TOUR_DIR", dir.path().join("tour"));
    let text = checked("the tour", command.output().unwrap());
    assert!(text.contains("Hello from hello-"), "{text}");
    assert!(text.contains("cleaned up"), "{text}");
}
