//! What the fuzz targets share.
//!
//! Each target takes foreign bytes the way that a client's would go, and holds the result against more than "no panic": answers are
//! 2xx or 4xx with a reason, what was accepted can be sent again and is answered alike, canonical texts read back equal. libFuzzer's
//! own limits find what is slow or large.
//!
//! Words: the *border* is a whole API in process, every write a dry run; a *seed* is an input to begin with, written anew by each run
//! from the objects and tables that the tests use, so that no corpus needs to be kept.

pub mod border;
pub mod mutate;
pub mod objects;
pub mod seeds;

#[allow(dead_code)]
#[path = "../../tests/api/mutator.rs"]
mod mutator;
#[path = "../../tests/api/samples.rs"]
mod samples;
#[allow(dead_code)]
#[path = "../../tests/api/objects.rs"]
mod samples_by_hand;
#[allow(dead_code)]
#[path = "../../tests/api/support.rs"]
mod support;
