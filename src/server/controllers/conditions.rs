//! Setting a condition in a list, for the kinds whose conditions have type, status, reason, message and a transition time.
//!
//! The one rule: the transition time changes only when the status does.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentCondition, ReplicaSetCondition};
use k8s_openapi::api::batch::v1::JobCondition;
use k8s_openapi::api::core::v1::{NamespaceCondition, NodeCondition, PodCondition};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::pods::stamp;

/// A condition of some kind.
pub trait Condition: Clone + Default {
    /// Its type.
    fn kind(&self) -> &str;
    /// Its status.
    fn status(&self) -> &str;
    /// Type, status, reason, message.
    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str);
    /// Its transition time.
    fn transition(&mut self) -> &mut Option<Time>;
}

macro_rules! conditions {
    ($($t:ty: $wrap:expr, $text:expr;)*) => { $(impl Condition for $t {
        fn kind(&self) -> &str { let text: fn(&Self) -> (&str, &str) = $text; text(self).0 }
        fn status(&self) -> &str { let text: fn(&Self) -> (&str, &str) = $text; text(self).1 }
        fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
            let wrap: fn(&str) -> _ = $wrap;
            (self.type_, self.status) = (wrap(kind), wrap(status));
            (self.reason, self.message) = (Some(reason.to_owned()), Some(message.to_owned()));
        }
        fn transition(&mut self) -> &mut Option<Time> { &mut self.last_transition_time }
    })* };
}

conditions! {
    PodCondition: |text| text.to_owned(), |c| (&c.type_, &c.status);
    NodeCondition: |text| text.to_owned(), |c| (&c.type_, &c.status);
    CustomResourceDefinitionCondition: |text| text.to_owned(), |c| (&c.type_, &c.status);
    NamespaceCondition: |text| text.to_owned(), |c| (&c.type_, &c.status);
    JobCondition: |text| text.to_owned(), |c| (&c.type_, &c.status);
    DeploymentCondition: |text| Some(text.to_owned()), |c| (c.type_.as_deref().unwrap_or(""), c.status.as_deref().unwrap_or(""));
    ReplicaSetCondition: |text| Some(text.to_owned()), |c| (c.type_.as_deref().unwrap_or(""), c.status.as_deref().unwrap_or(""));
}

/// Finds a condition.
pub fn find<'a, C: Condition>(list: &'a Option<Vec<C>>, kind: &str) -> Option<&'a C> {
    list.iter().flatten().find(|condition| condition.kind() == kind)
}

/// Sets a condition, keeping its place, its other fields, and its transition time where the status stays.
pub fn put<C: Condition>(list: &mut Option<Vec<C>>, kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) {
    let list = list.get_or_insert_default();
    if !list.iter().any(|condition| condition.kind() == kind) {
        let mut fresh = C::default();
        fresh.set(kind, "", "", "");
        list.push(fresh);
    }
    let Some(condition) = list.iter_mut().find(|condition| condition.kind() == kind) else { return };
    if condition.status() != status {
        *condition.transition() = Some(stamp(now));
    }
    condition.set(kind, status, reason, message);
}

/// Removes a condition.
pub fn remove<C: Condition>(list: &mut Option<Vec<C>>, kind: &str) {
    if let Some(conditions) = list {
        conditions.retain(|condition| condition.kind() != kind);
        if conditions.is_empty() {
            *list = None;
        }
    }
}
