//! Lists of amounts by resource name: `cpu: 1, memory: 1Gi`, and what upstream's quota library does with them.
//!
//! Follows apiserver `pkg/quota/v1/resources.go` and component-helpers `resource/helpers.go`. Pure.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::quantity::Quantity;

/// Amounts by resource name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts(BTreeMap<String, Quantity>);

impl Amounts {
    /// From the wire. An amount that does not parse counts as nothing: validation refuses such an object before it is stored.
    pub fn of(list: Option<&BTreeMap<String, ApiQuantity>>) -> Amounts {
        let parsed = list.into_iter().flatten().filter_map(|(name, amount)| Some((name.clone(), Quantity::try_from(amount).ok()?)));
        Amounts(parsed.collect())
    }

    /// To the wire.
    pub fn to_api(&self) -> BTreeMap<String, ApiQuantity> {
        self.0.iter().map(|(name, amount)| (name.clone(), amount.to_api())).collect()
    }

    /// One amount.
    pub fn get(&self, name: &str) -> Option<Quantity> {
        self.0.get(name).copied()
    }

    /// Replaces one amount.
    pub fn set(&mut self, name: impl Into<String>, amount: Quantity) {
        self.0.insert(name.into(), amount);
    }

    /// All amounts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Quantity)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds each amount of `other`.
    pub fn add(&mut self, other: &Amounts) {
        for (name, amount) in &other.0 {
            let sum = self.0.entry(name.clone()).or_default();
            *sum += *amount;
        }
    }

    /// Takes each amount of `other` away; what is not listed here becomes negative.
    pub fn subtract(&mut self, other: &Amounts) {
        for (name, amount) in &other.0 {
            let rest = self.0.entry(name.clone()).or_default();
            *rest -= *amount;
        }
    }

    /// Raises each amount to that of `other` where that is more.
    pub fn raise_to(&mut self, other: &Amounts) {
        for (name, amount) in &other.0 {
            let present = self.0.entry(name.clone()).or_insert(*amount);
            if *amount > *present {
                *present = *amount;
            }
        }
    }

    /// Those that are not zero.
    #[must_use]
    pub fn without_zeros(mut self) -> Amounts {
        self.0.retain(|_, amount| !amount.is_zero());
        self
    }

    /// Those whose name `keep` accepts.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&str) -> bool) -> Amounts {
        Amounts(self.0.iter().filter(|(name, _)| keep(name)).map(|(name, amount)| (name.clone(), *amount)).collect())
    }
}

impl FromIterator<(String, Quantity)> for Amounts {
    fn from_iter<I: IntoIterator<Item = (String, Quantity)>>(amounts: I) -> Amounts {
        Amounts(amounts.into_iter().collect())
    }
}

impl fmt::Display for Amounts {
    /// `cpu=1,memory=1Gi`, as upstream's messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, amount)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{name}={amount}")?;
        }
        Ok(())
    }
}
