//! Keeps fairness true to its objects: compiles what changed, and lends idle seats anew every ten seconds.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use tokio_util::sync::CancellationToken;

use super::Fairness;
use crate::api::{Kind, Scope, fairness};
use crate::server::store::{Delivery, Snapshot, Store, Watch};

/// How often seats are lent anew (upstream's period).
const PERIOD: Duration = Duration::from_secs(10);

/// What is in force even when the objects are gone.
pub(super) struct Mandatory {
    pub levels: Vec<PriorityLevelConfiguration>,
    pub schemas: Vec<FlowSchema>,
}

impl Mandatory {
    pub(super) fn get() -> &'static Mandatory {
        static MANDATORY: LazyLock<Mandatory> = LazyLock::new(|| {
            let named = |name: &Option<String>| fairness::MANDATORY.contains(&name.as_deref().unwrap_or_default());
            let shipped = fairness::shipped();
            Mandatory {
                levels: shipped.levels.iter().filter(|level| named(&level.metadata.name)).cloned().collect(),
                schemas: shipped.schemas.iter().filter(|schema| named(&schema.metadata.name)).cloned().collect(),
            }
        });
        &MANDATORY
    }
}

/// Follows the objects in `store` until `stop`.
pub async fn keep(fairness: Arc<Fairness>, store: Store, stop: CancellationToken) {
    let mut timer = tokio::time::interval(PERIOD);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    timer.tick().await;
    while !stop.is_cancelled() {
        let snapshot = store.snapshot();
        digest(&fairness, &snapshot);
        let watches = (
            store.watch(Scope::of::<FlowSchema>(), snapshot.rev()),
            store.watch(Scope::of::<PriorityLevelConfiguration>(), snapshot.rev()),
        );
        let (Ok(mut schemas), Ok(mut levels)) = watches else {
            // The history moved on meanwhile: read again.
            tokio::task::yield_now().await;
            continue;
        };
        if !follow(&fairness, &store, &mut schemas, &mut levels, &mut timer, &stop).await {
            return;
        }
    }
}

/// `false`: the end. `true`: read everything again.
async fn follow(
    fairness: &Arc<Fairness>,
    store: &Store,
    schemas: &mut Watch,
    levels: &mut Watch,
    timer: &mut tokio::time::Interval,
    stop: &CancellationToken,
) -> bool {
    loop {
        let delivery = tokio::select! {
            () = stop.cancelled() => return false,
            _ = timer.tick() => {
                fairness.adjust();
                continue;
            }
            delivery = schemas.next() => delivery,
            delivery = levels.next() => delivery,
        };
        match delivery {
            Delivery::Events(_) => digest(fairness, &store.snapshot()),
            Delivery::Expired => return true,
            Delivery::Closed => return false,
        }
    }
}

fn all<T: Kind>(snapshot: &Snapshot) -> Vec<Arc<T>> {
    // What does not decode is as if it were not there; whoever reads it over the API is told.
    snapshot.range(&Scope::of::<T>()).filter_map(|entry| entry.typed::<T>().ok()).collect()
}

pub(super) fn digest(fairness: &Arc<Fairness>, snapshot: &Snapshot) {
    for (level, limit) in fairness.adopt(&all(snapshot), &all(snapshot)) {
        fairness.set_limit(&level, limit);
    }
}
