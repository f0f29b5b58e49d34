//! Whether there is room for one write, and what it takes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, ResourceQuota, ResourceRequirements};

use super::measure::of_pod;
use super::{Item, governs, measure, tracks};
use crate::api::amounts::Amounts;

/// A quota and how much of it is taken now.
pub struct Standing<'a> {
    /// The quota; its `spec.hard` is what bounds.
    pub quota: &'a ResourceQuota,
    /// What is taken, by writes under way too.
    pub used: Amounts,
}

/// What a write of `new` (in place of `old`) adds to each of the quotas, or why it may not be. The result has one entry a quota, empty
/// where the quota is not concerned. A write that frees something is never refused.
pub fn charge(
    standings: &[Standing<'_>],
    (group, resource): (&str, &str),
    new: Item<'_>,
    old: Option<Item<'_>>,
) -> Result<Vec<Amounts>, String> {
    let whole = |item: Item<'_>| {
        let measure = measure(group, resource, item);
        let mut amounts = measure.stored;
        amounts.add(&measure.alive);
        amounts
    };
    let usage = whole(new);
    let negative: Vec<&str> = usage.iter().filter(|(_, amount)| amount.is_negative()).map(|(name, _)| name).collect();
    if !negative.is_empty() {
        return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
    }
    let before = old.map(whole);
    let mut charges = Vec::with_capacity(standings.len());
    for Standing { quota, .. } in standings {
        if !governs(quota, group, resource, new) {
            charges.push(Amounts::default());
            continue;
        }
        let hard = hard(quota);
        let name = quota.metadata.name.as_deref().unwrap_or_default();
        let required: Vec<&str> = hard.names().filter(|name| tracks(group, resource, name)).collect();
        if let Item::Pod(pod) = new {
            specified(pod, &required).map_err(|why| format!("failed quota: {name}: {why}"))?;
        }
        let mut delta = usage.clone();
        if let (Some(before), true) = (&before, old.is_some_and(|old| governs(quota, group, resource, old))) {
            delta.subtract(before);
            delta = delta.iter().filter(|(_, amount)| !amount.is_negative()).map(|(name, amount)| (name.to_owned(), amount)).collect();
        }
        charges.push(delta.only(|name| hard.get(name).is_some()).without_zeros());
    }
    for (Standing { quota, used }, delta) in standings.iter().zip(&charges) {
        fits(quota, used, delta)?;
    }
    Ok(charges)
}

/// The bounds of a quota.
pub fn hard(quota: &ResourceQuota) -> Amounts {
    Amounts::of(quota.spec.as_ref().and_then(|spec| spec.hard.as_ref()))
}

fn fits(quota: &ResourceQuota, used: &Amounts, delta: &Amounts) -> Result<(), String> {
    let hard = hard(quota);
    let taken = |name: &str| used.get(name).unwrap_or_default();
    let over: BTreeSet<&str> = delta
        .iter()
        .filter(|(name, amount)| hard.get(name).is_some_and(|bound| taken(name) + *amount > bound))
        .map(|(name, _)| name)
        .collect();
    if over.is_empty() {
        return Ok(());
    }
    let used: Amounts = over.iter().map(|name| ((*name).to_owned(), taken(name))).collect();
    let is_over = |name: &str| over.contains(name);
    Err(format!(
        "exceeded quota: {}, requested: {}, used: {used}, limited: {}",
        quota.metadata.name.as_deref().unwrap_or_default(),
        delta.only(is_over),
        hard.only(is_over)
    ))
}

/// Where CPU or memory is bounded, each container must say how much of it it wants. Upstream calls this a mistake that can't be undone.
fn specified(pod: &Pod, required: &[&str]) -> Result<(), String> {
    const CHECKED: [&str; 6] = ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];
    let required: Vec<&str> = CHECKED.into_iter().filter(|name| required.contains(name)).collect();
    let Some(spec) = pod.spec.as_ref().filter(|_| !required.is_empty()) else { return Ok(()) };
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    // Said for the pod as a whole, it is said for each of its containers.
    let list = |resources: Option<&ResourceRequirements>| {
        let requests = Amounts::of(resources.and_then(|resources| resources.requests.as_ref()));
        of_pod(&requests, &Amounts::of(resources.and_then(|resources| resources.limits.as_ref())))
    };
    let pod_level = list(spec.resources.as_ref());
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let said = list(container.resources.as_ref());
        for name in required.iter().filter(|name| said.get(name).is_none() && pod_level.get(name).is_none()) {
            missing.entry(name).or_default().insert(&container.name);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let each = missing.iter().map(|(name, containers)| {
        let containers: Vec<&str> = containers.iter().copied().collect();
        format!("{name} for: {}", containers.join(","))
    });
    Err(format!("must specify {}", each.collect::<Vec<_>>().join("; ")))
}
