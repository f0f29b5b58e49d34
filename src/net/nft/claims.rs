//! Who asks for what in the table, so that a change costs what it costs however many others ask for something. Pure.
//!
//! Words: an *owner* is a Service, or the host ports of the node; its *fragment* is what it needs in the table: sets of its own, chains, and
//! elements of the sets that all share. A *claim* is an owner's wish for one such element.
//!
//! Invariants: when several owners claim one key, the first in the order of their names has it, and the next one once that is gone. A chain
//! is there while anybody needs it; what several need under one name has the same rules for all.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::model::{Chain, Data, Ruleset, Set};

/// What one owner needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// Chains, of its own or shared with others.
    pub chains: BTreeMap<String, Chain>,
    /// Sets of its own.
    pub sets: BTreeMap<String, Set>,
    /// Elements of shared sets.
    pub elements: BTreeMap<(&'static str, Vec<u8>), Data>,
}

/// An owner whose fragment changes.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub owner: String,
    pub was: Fragment,
    pub is: Fragment,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    elements: HashMap<(&'static str, Vec<u8>), BTreeMap<String, Data>>,
    /// How many owners need a chain.
    chains: HashMap<String, usize>,
}

impl Claims {
    /// Takes the changes in. What [`super::diff::diff`] needs of the table, before and after: nothing else of it differs. `shared` gives the
    /// shared sets without elements.
    pub fn change(&mut self, changes: Vec<Change>, shared: &BTreeMap<String, Set>) -> (Ruleset, Ruleset) {
        let (mut was, mut is) = (Ruleset::default(), Ruleset::default());
        let touched: BTreeSet<_> =
            changes.iter().flat_map(|change| change.was.elements.keys().chain(change.is.elements.keys())).cloned().collect();
        self.show(&touched, shared, &mut was);
        self.change_chains(&changes, &mut was, &mut is);
        for Change { owner, was: old, is: new } in changes {
            for key in old.elements.into_keys() {
                let Some(claims) = self.elements.get_mut(&key) else { continue };
                claims.remove(&owner);
                if claims.is_empty() {
                    self.elements.remove(&key);
                }
            }
            for (key, data) in new.elements {
                self.elements.entry(key).or_default().insert(owner.clone(), data);
            }
            was.sets.extend(old.sets);
            is.sets.extend(new.sets);
        }
        self.show(&touched, shared, &mut is);
        (was, is)
    }

    /// Counts who needs which chain, and adds those that the changes speak of as they are there before and after.
    fn change_chains(&mut self, changes: &[Change], was: &mut Ruleset, is: &mut Ruleset) {
        let add = |ruleset: &mut Ruleset, name: &String, chain: &Chain| drop(ruleset.chains.insert(name.clone(), chain.clone()));
        let (old, new) = (|| changes.iter().flat_map(|c| &c.was.chains), || changes.iter().flat_map(|c| &c.is.chains));
        // What an owner had, it had as it says; what it did not have, is there for others, as it is going to be.
        new().chain(old()).filter(|(name, _)| self.chains.contains_key(*name)).for_each(|(name, chain)| add(was, name, chain));
        for (name, _) in new() {
            *self.chains.entry(name.clone()).or_default() += 1;
        }
        for (name, _) in old() {
            let Some(count) = self.chains.get_mut(name) else { continue };
            *count -= 1;
            if *count == 0 {
                self.chains.remove(name);
            }
        }
        old().chain(new()).filter(|(name, _)| self.chains.contains_key(*name)).for_each(|(name, chain)| add(is, name, chain));
    }

    /// Adds those of the elements that are there.
    fn show(&self, touched: &BTreeSet<(&'static str, Vec<u8>)>, shared: &BTreeMap<String, Set>, ruleset: &mut Ruleset) {
        for (set, key) in touched {
            let Some(empty) = shared.get(*set) else { continue };
            let shown = ruleset.sets.entry((*set).to_owned()).or_insert_with(|| empty.clone());
            let first = self.elements.get(&(*set, key.clone())).and_then(|claims| claims.values().next());
            shown.elements.extend(first.map(|data| (key.clone(), data.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Field, Kind, Rule};
    use super::*;

    fn fragment(keys: &[(u8, u8)]) -> Fragment {
        let elements = keys.iter().map(|(key, data)| (("m", vec![*key]), Data::Value(vec![*data]))).collect();
        Fragment { elements, ..Fragment::default() }
    }

    fn check(claims: &mut Claims, owner: &str, was: &[(u8, u8)], is: &[(u8, u8)], before: &[(u8, u8)], after: &[(u8, u8)]) {
        let shared = BTreeMap::from([("m".to_owned(), Set::new(&[Field::Address], Kind::Map(&[Field::Address])))]);
        let change = Change { owner: owner.into(), was: fragment(was), is: fragment(is) };
        let shown = |ruleset: Ruleset| -> Vec<(u8, u8)> {
            let byte = |data: &Data| if let Data::Value(bytes) = data { bytes[0] } else { 0 };
            ruleset.sets["m"].elements.iter().map(|(key, data)| (key[0], byte(data))).collect()
        };
        let (old, new) = claims.change(vec![change], &shared);
        assert_eq!((shown(old), shown(new)), (before.to_vec(), after.to_vec()), "{owner}");
    }

    #[test]
    fn the_first_claim_wins_and_the_next_follows() {
        let mut claims = Claims::default();
        check(&mut claims, "b", &[], &[(1, 20), (2, 20)], &[], &[(1, 20), (2, 20)]);
        check(&mut claims, "c", &[], &[(1, 30)], &[(1, 20)], &[(1, 20)]);
        check(&mut claims, "a", &[], &[(1, 10)], &[(1, 20)], &[(1, 10)]);
        check(&mut claims, "b", &[(1, 20), (2, 20)], &[(2, 21)], &[(1, 10), (2, 20)], &[(1, 10), (2, 21)]);
        check(&mut claims, "a", &[(1, 10)], &[], &[(1, 10)], &[(1, 30)]);
        check(&mut claims, "c", &[(1, 30)], &[], &[(1, 30)], &[]);
        check(&mut claims, "b", &[(2, 21)], &[], &[(2, 21)], &[]);
        assert!(claims.elements.is_empty(), "nothing is kept of who is gone");
    }

    #[test]
    fn a_chain_is_there_while_anybody_needs_it() {
        let mut claims = Claims::default();
        let fragment = |chains: &[(&str, &str)]| {
            let rules = |note: &str| vec![Rule::new().note(note)];
            let chains = chains.iter().map(|(name, note)| ((*name).to_owned(), Chain { hook: None, rules: rules(note) })).collect();
            Fragment { chains, ..Fragment::default() }
        };
        type Named<'a> = &'a [(&'a str, &'a str)];
        let steps: [(&str, Named<'_>, Named<'_>, Named<'_>, Named<'_>); 6] = [
            ("a", &[], &[("all", "x"), ("own", "1")], &[], &[("all", "x"), ("own", "1")]),
            ("b", &[], &[("all", "x")], &[("all", "x")], &[("all", "x")]),
            (
                "a",
                &[("all", "x"), ("own", "1")],
                &[("all", "x"), ("own", "2")],
                &[("all", "x"), ("own", "1")],
                &[("all", "x"), ("own", "2")],
            ),
            ("a", &[("all", "x"), ("own", "2")], &[("own", "2")], &[("all", "x"), ("own", "2")], &[("all", "x"), ("own", "2")]),
            ("b", &[("all", "x")], &[], &[("all", "x")], &[]),
            ("a", &[("own", "2")], &[], &[("own", "2")], &[]),
        ];
        for (owner, old, new, before, after) in steps {
            let change = Change { owner: owner.into(), was: fragment(old), is: fragment(new) };
            let (was, is) = claims.change(vec![change], &BTreeMap::new());
            assert_eq!((was.chains, is.chains), (fragment(before).chains, fragment(after).chains), "{owner}: {old:?} to {new:?}");
        }
        assert!(claims.chains.is_empty());
    }
}
