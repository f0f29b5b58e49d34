//! Cells of Table columns, in upstream's forms.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, LoadBalancerIngress, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::duration;
use crate::api::Object;
use crate::server::registry::strategy::Cell;

/// What upstream prints where there is nothing.
pub const NONE: &str = "<none>";
/// What upstream prints for an unset value that has a meaning.
pub const UNSET: &str = "<unset>";

/// A text cell.
pub fn text(value: impl Into<String>) -> Cell {
    Cell::Text(value.into())
}

/// An optional text; empty if missing.
pub fn opt(value: &Option<String>) -> Cell {
    Cell::Text(value.clone().unwrap_or_default())
}

/// An optional text; `<none>` if missing or empty.
pub fn or_none(value: Option<&str>) -> Cell {
    Cell::Text(value.filter(|value| !value.is_empty()).unwrap_or(NONE).into())
}

/// An integer cell; 0 if missing.
pub fn int(value: Option<i32>) -> Cell {
    Cell::Int(value.unwrap_or_default().into())
}

/// A length.
pub fn count(value: usize) -> Cell {
    Cell::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

/// The object's age.
pub fn age<T: Object>(object: &T, now: Timestamp) -> Cell {
    Cell::Text(duration::since(object.meta().creation_timestamp.as_ref().map(|time| time.0), now))
}

/// When the object was made, in full.
pub fn created_at(meta: &ObjectMeta) -> Cell {
    let made = meta.creation_timestamp.as_ref();
    text(made.map_or_else(|| "<unknown>".into(), |time| time.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()))
}

/// The storage among some capacities, empty if there is none.
pub fn storage(list: Option<&BTreeMap<String, Quantity>>) -> String {
    list.and_then(|list| list.get("storage")).map(|amount| amount.0.clone()).unwrap_or_default()
}

/// The time since `then`, `<none>` if it has not happened.
pub fn ago_or_none(then: Option<&Time>, now: Timestamp) -> Cell {
    then.map_or_else(|| text(NONE), |then| text(duration::since(Some(then.0), now)))
}

/// `Names,of,containers`.
pub fn container_names(containers: &[Container]) -> Cell {
    text(containers.iter().map(|container| container.name.as_str()).collect::<Vec<_>>().join(","))
}

/// `images,of,containers`.
pub fn container_images(containers: &[Container]) -> Cell {
    text(containers.iter().map(|container| container.image.as_deref().unwrap_or_default()).collect::<Vec<_>>().join(","))
}

/// The containers of an optional template.
pub fn containers_of(template: Option<&PodTemplateSpec>) -> &[Container] {
    template.and_then(|template| template.spec.as_ref()).map_or(&[], |spec| &spec.containers)
}

/// `a=b,c=d`, `<none>` if empty: `labels.FormatLabels`.
pub fn labels(map: Option<&BTreeMap<String, String>>) -> String {
    let joined = map.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    if joined.is_empty() { NONE.into() } else { joined }
}

/// `a=b,c in (d,e),!f`, `<none>` if empty: `metav1.FormatLabelSelector`. Keys sorted, as upstream's requirements are.
pub fn selector(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return NONE.into() };
    let mut terms: Vec<(&str, String)> = Vec::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        terms.push((key, format!("{key}={value}")));
    }
    for requirement in selector.match_expressions.iter().flatten() {
        let key = requirement.key.as_str();
        let mut values = requirement.values.clone().unwrap_or_default();
        values.sort();
        let values = values.join(",");
        let term = match requirement.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return "<error>".into(),
        };
        terms.push((key, term));
    }
    if terms.is_empty() {
        return NONE.into();
    }
    terms.sort_by(|a, b| a.0.cmp(b.0));
    terms.into_iter().map(|(_, term)| term).collect::<Vec<_>>().join(",")
}

/// An int-or-string as text.
pub fn int_or_string(value: &IntOrString) -> String {
    match value {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    }
}

/// The first three of `items`, then how many more there are.
pub fn first_three(items: &[String]) -> String {
    match items.len() {
        0..=3 => items.join(","),
        many => format!("{} + {} more...", items[..3].join(","), many - 3),
    }
}

/// Addresses of a load balancer, sorted.
pub fn load_balancer(ingress: Option<&Vec<LoadBalancerIngress>>) -> String {
    let names = ingress.into_iter().flatten().filter_map(|one| one.ip.as_deref().or(one.hostname.as_deref()));
    let mut names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(",")
}

/// `RWO,RWX`, without repetition.
pub fn access_modes(modes: Option<&Vec<String>>) -> String {
    const SHORT: &[(&str, &str)] =
        &[("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let has = |mode: &str| modes.into_iter().flatten().any(|one| one == mode);
    SHORT.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}
