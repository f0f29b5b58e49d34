//! Watches: a place in the history and a bell.

use std::sync::Arc;

use tokio::sync::watch;

use super::history::Found;
use super::{Event, Expired, Shared};
use crate::api::{Rev, Scope};

/// Most events handed over at once, so that one slow reader does not hold the lock for long.
const BATCH: usize = 256;

/// A stream of the changes in one scope, in revision order, without gap or duplicate.
pub struct Watch {
    shared: Arc<Shared>,
    scope: Scope,
    seen: Rev,
    bell: watch::Receiver<()>,
}

/// What a watch yields.
#[derive(Debug)]
pub enum Delivery {
    /// Changes, oldest first (at least one).
    Events(Vec<Arc<Event>>),
    /// The watcher was too slow and the history it needs is gone: it must list again (410).
    Expired,
    /// The store is closing.
    Closed,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>, scope: Scope, from: Rev) -> Result<Watch, Expired> {
        let bell = shared.history.subscribe(&scope, from)?;
        Ok(Watch { shared, scope, seen: from, bell })
    }

    /// Waits for the next changes in scope. Cancel safe: nothing is taken before it is returned.
    pub async fn next(&mut self) -> Delivery {
        loop {
            // Marked before looking, so that what comes while looking rings again.
            self.bell.mark_unchanged();
            match self.shared.history.after(&self.scope, self.seen, BATCH) {
                Found::Expired => return Delivery::Expired,
                Found::Closed => return Delivery::Closed,
                Found::Events(events, upto) => {
                    self.seen = upto;
                    if !events.is_empty() {
                        return Delivery::Events(events);
                    }
                }
            }
            if self.bell.changed().await.is_err() {
                return Delivery::Closed;
            }
        }
    }

    /// Every change of this scope up to and including this revision was delivered by [`Watch::next`] (what a bookmark says).
    pub fn seen(&self) -> Rev {
        self.shared.history.progress(&self.scope, self.seen)
    }
}
