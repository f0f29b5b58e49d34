//! From bare hosts to a cluster: a server, and one command for each further node.

use std::time::{Duration, Instant};

use crate::support::bed::{Bed, Place, SERVER};
use crate::support::step;

/// Starts a server with these flags on the first host, and waits until its own node is ready.
pub fn serve(bed: &impl Bed, flags: &str) {
    let started = Instant::now();
    bed.start(SERVER, "server", &format!("orch server {flags}"));
    let name = &bed.hosts()[0].name;
    bed.until(SERVER, "test -s $KUBECONFIG && kubectl get nodes", |nodes| is_ready(nodes, name));
    bed.until(SERVER, "kubectl get serviceaccount default -o name", |_| true);
    step(&format!("the server and {name} are ready after {:?}", started.elapsed()));
}

/// Makes a node of a host by the line that the server prints, with further flags; how long that took until it was ready.
pub fn join(bed: &impl Bed, host: usize, flags: &str) -> Duration {
    let name = &bed.hosts()[host].name;
    let line = bed.sh(SERVER, "orch token create --print-join-command");
    // A client takes long to start in some beds: one that watches is there before what it is to see.
    let watch = format!("nodes-{name}");
    bed.start(SERVER, &watch, "kubectl get nodes --watch");
    bed.until(SERVER, &format!("cat $HOME/{watch}.log"), |text| text.contains(&bed.hosts()[0].name));
    let started = Instant::now();
    bed.start(Place::Host(host), "agent", &format!("{} {flags}", line.trim()));
    bed.until(SERVER, &format!("cat $HOME/{watch}.log"), |text| is_ready(text, name));
    let took = started.elapsed();
    step(&format!("{name} is ready {took:?} after the command"));
    took
}

/// Gives a host the image that scenarios use.
pub fn import(bed: &impl Bed, host: usize) {
    bed.sh(Place::Host(host), "orch image import $IMAGE");
}

/// Runs pods of a set on the last host, once `NODE` in them is its name, until they are ready: the host and that name.
pub fn on_last(bed: &impl Bed, pods: &str, set: &str) -> (Place, String) {
    let host = bed.hosts().len() - 1;
    let node = bed.hosts()[host].name.clone();
    import(bed, host);
    bed.apply(&pods.replace("NODE", &node));
    bed.kubectl(&format!("wait --for=condition=Ready pod -l set={set} --timeout={}s", bed.patience().as_secs()));
    (Place::Host(host), node)
}

/// Whether a table of nodes shows this one as ready.
fn is_ready(nodes: &str, name: &str) -> bool {
    nodes.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(name) && words.next() == Some("Ready")
    })
}
