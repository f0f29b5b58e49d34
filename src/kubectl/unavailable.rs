//! Verbs that answer why they do nothing.

use clap::Args;

use super::error::{Error, Result};
use super::session::Session;
use super::verb::Verb;

/// `top`
#[derive(Args, Clone, Debug)]
pub struct Top {
    /// Whatever is asked
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

impl Verb for Top {
    const NAME: &'static str = "top";
    const ABOUT: &'static str = "Display resource usage (needs the metrics API)";

    async fn run(self, _: &Session) -> Result<i32> {
        Error::usage("Metrics API not available: this server does not serve metrics.k8s.io")
    }
}

/// `edit`
#[derive(Args, Clone, Debug)]
pub struct Edit {
    /// Whatever is asked
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

impl Verb for Edit {
    const NAME: &'static str = "edit";
    const ABOUT: &'static str = "Edit a resource (not available)";

    async fn run(self, _: &Session) -> Result<i32> {
        Error::usage("edit is not available: use `get -o yaml`, change the file and `apply -f` it, or use `patch`")
    }
}
