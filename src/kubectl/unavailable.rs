//! Verbs that answer why they do nothing.

use clap::Args;

use super::error::{Error, Result};
use super::session::Session;
use super::verb::Verb;

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
