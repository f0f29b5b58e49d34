//! What a verb is, and how its flags meet its body.

use clap::{ArgMatches, Args, Command};
use futures::future::BoxFuture;

use super::error::{Error, Result};
use super::session::Session;

/// One verb: its flags are the fields of the type.
pub trait Verb: Args + Send + Sized + 'static {
    /// As typed.
    const NAME: &'static str;
    /// One line of help.
    const ABOUT: &'static str;
    /// Other names, such as `log` for `logs`.
    const ALIASES: &'static [&'static str] = &[];

    /// Does it. The result is the exit code.
    fn run(self, session: &Session) -> impl Future<Output = Result<i32>> + Send;
}

/// A row of the table of verbs.
pub struct Entry {
    /// As typed.
    pub name: &'static str,
    command: fn() -> Command,
    run: for<'a> fn(&'a Session, &'a ArgMatches) -> BoxFuture<'a, Result<i32>>,
    check: fn(&ArgMatches) -> Result<()>,
}

/// The row of a verb.
pub const fn entry<V: Verb>() -> Entry {
    Entry { name: V::NAME, command: command::<V>, run: run::<V>, check: check::<V> }
}

fn command<V: Verb>() -> Command {
    V::augment_args(Command::new(V::NAME).about(V::ABOUT).visible_aliases(V::ALIASES.iter().copied()))
}

fn read<V: Verb>(matches: &ArgMatches) -> Result<V> {
    V::from_arg_matches(matches).map_err(|error| Error::Arguments(Box::new(error)))
}

fn check<V: Verb>(matches: &ArgMatches) -> Result<()> {
    read::<V>(matches).map(drop)
}

fn run<'a, V: Verb>(session: &'a Session, matches: &'a ArgMatches) -> BoxFuture<'a, Result<i32>> {
    Box::pin(async move { read::<V>(matches)?.run(session).await })
}

impl Entry {
    /// Its part of the command line.
    pub fn command(&self) -> Command {
        (self.command)()
    }

    /// Runs it.
    pub fn run<'a>(&self, session: &'a Session, matches: &'a ArgMatches) -> BoxFuture<'a, Result<i32>> {
        (self.run)(session, matches)
    }

    /// Whether its flags can be read.
    #[cfg_attr(not(test), expect(dead_code, reason = "the table's test walks the verbs"))]
    pub fn check(&self, matches: &ArgMatches) -> Result<()> {
        (self.check)(matches)
    }
}
