//! From one ruleset to another, as the messages of one transaction. Pure.
//!
//! The order within the transaction is what the kernel demands: what is referred to exists before it is referred to, and nothing refers to
//! what is deleted. So: new sets and chains; elements that go; rules that go; rules that come; elements that come; chains and sets that go.
//! Work is proportional to the change: an element, or a chain of a Service, costs what it costs however many others there are.

use super::model::{Chain, Data, Kind, Rule, Ruleset, Set};

/// One netlink message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    AddTable,
    DeleteTable,
    AddSet {
        name: String,
        key: &'static [super::model::Field],
        kind: Kind,
    },
    DeleteSet(String),
    AddChain {
        name: String,
        hook: Option<super::model::Hook>,
    },
    DeleteChain(String),
    /// Removes all rules of a chain.
    Flush(String),
    AddRule {
        chain: String,
        rule: Rule,
    },
    AddElements {
        set: String,
        elements: Vec<(Vec<u8>, Data)>,
    },
    DeleteElements {
        set: String,
        keys: Vec<Vec<u8>>,
    },
}

/// Elements in one message: an attribute is at most 64 KiB long, and so are all elements of a message together.
const CHUNK: usize = 400;

/// Replaces the table whole, whether or not there is one.
pub(crate) fn replace(new: &Ruleset) -> Vec<Message> {
    let mut messages = vec![Message::AddTable, Message::DeleteTable, Message::AddTable];
    messages.extend(diff(&Ruleset::default(), new));
    messages
}

/// What leads from `old` to `new`; empty if they are equal.
pub(crate) fn diff(old: &Ruleset, new: &Ruleset) -> Vec<Message> {
    let mut messages = Vec::new();
    let empty = Chain::default();
    let changed: Vec<(&String, &Chain, &Chain)> = new
        .chains
        .iter()
        .map(|(name, chain)| (name, old.chains.get(name).unwrap_or(&empty), chain))
        .filter(|(_, was, is)| was != is)
        .collect();
    let gone: Vec<&String> = old.chains.keys().filter(|name| !new.chains.contains_key(*name)).collect();

    for (name, set) in new.sets.iter().filter(|(name, _)| !old.sets.contains_key(*name)) {
        messages.push(Message::AddSet { name: name.clone(), key: set.key, kind: set.kind });
    }
    for (name, chain) in new.chains.iter().filter(|(name, _)| !old.chains.contains_key(*name)) {
        messages.push(Message::AddChain { name: name.clone(), hook: chain.hook });
    }
    for (name, set) in &old.sets {
        let is = new.sets.get(name);
        let leaves = |(key, data): &(&Vec<u8>, &Data)| is.is_some_and(|is| is.elements.get(*key) != Some(*data));
        let keys: Vec<Vec<u8>> = match is {
            Some(_) => set.elements.iter().filter(leaves).map(|(key, _)| key.clone()).collect(),
            // A map that goes still holds on to the chains its verdicts name.
            None => set.elements.keys().cloned().collect(),
        };
        messages.extend(keys.chunks(CHUNK).map(|keys| Message::DeleteElements { set: name.clone(), keys: keys.to_vec() }));
    }
    messages.extend(gone.iter().map(|name| Message::Flush((*name).clone())));
    messages.extend(changed.iter().filter(|(_, was, _)| !was.rules.is_empty()).map(|(name, _, _)| Message::Flush((*name).clone())));
    for (name, _, chain) in &changed {
        messages.extend(chain.rules.iter().map(|rule| Message::AddRule { chain: (*name).clone(), rule: rule.clone() }));
    }
    for (name, set) in &new.sets {
        messages.extend(arriving(name, old.sets.get(name), set));
    }
    messages.extend(gone.into_iter().map(|name| Message::DeleteChain(name.clone())));
    messages.extend(old.sets.keys().filter(|name| !new.sets.contains_key(*name)).map(|name| Message::DeleteSet(name.clone())));
    messages
}

fn arriving(name: &str, was: Option<&Set>, is: &Set) -> Vec<Message> {
    let held = |key: &Vec<u8>| was.and_then(|was| was.elements.get(key));
    let elements: Vec<_> = is.elements.iter().filter(|(key, data)| held(key) != Some(*data)).map(|(k, d)| (k.clone(), d.clone())).collect();
    elements.chunks(CHUNK).map(|elements| Message::AddElements { set: name.to_owned(), elements: elements.to_vec() }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::model::{Field, Verdict};
    use super::*;

    fn ruleset(chains: &[(&str, &str)], elements: &[(&str, u8, &str)]) -> Ruleset {
        let mut ruleset = Ruleset::default();
        for (name, target) in chains {
            let rules = if target.is_empty() { vec![] } else { vec![Rule::new().verdict(Verdict::Jump((*target).into()))] };
            ruleset.chains.insert((*name).into(), Chain { hook: None, rules });
        }
        for (set, key, target) in elements {
            let set = ruleset.sets.entry((*set).into()).or_insert_with(|| Set::new(&[Field::Address], Kind::VerdictMap));
            set.elements.insert(vec![*key], Data::Verdict(Verdict::Goto((*target).into())));
        }
        ruleset
    }

    /// A message as one word, to read in an expectation.
    fn word(message: &Message) -> String {
        match message {
            Message::AddTable => "+table".into(),
            Message::DeleteTable => "-table".into(),
            Message::AddSet { name, .. } => format!("+set {name}"),
            Message::DeleteSet(name) => format!("-set {name}"),
            Message::AddChain { name, .. } => format!("+chain {name}"),
            Message::DeleteChain(name) => format!("-chain {name}"),
            Message::Flush(name) => format!("flush {name}"),
            Message::AddRule { chain, .. } => format!("+rule {chain}"),
            Message::AddElements { set, elements } => format!("+{set} {:?}", elements.iter().map(|(k, _)| k[0]).collect::<Vec<_>>()),
            Message::DeleteElements { set, keys } => format!("-{set} {:?}", keys.iter().map(|k| k[0]).collect::<Vec<_>>()),
        }
    }

    fn check(old: &Ruleset, new: &Ruleset, expect: &[&str]) {
        assert_eq!(diff(old, new).iter().map(word).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn only_what_changed() {
        let none = ruleset(&[], &[]);
        let one = ruleset(&[("a", ""), ("b", "a")], &[("m", 1, "a")]);
        let two = ruleset(&[("a", ""), ("b", "a"), ("c", "a")], &[("m", 1, "a"), ("m", 2, "c")]);
        let moved = ruleset(&[("a", ""), ("b", "c"), ("c", "a")], &[("m", 1, "c"), ("m", 2, "c")]);
        check(&one, &one, &[]);
        check(&none, &one, &["+set m", "+chain a", "+chain b", "+rule b", "+m [1]"]);
        check(&one, &two, &["+chain c", "+rule c", "+m [2]"]);
        check(&two, &one, &["-m [2]", "flush c", "-chain c"]);
        check(&two, &moved, &["-m [1]", "flush b", "+rule b", "+m [1]"]);
        check(&one, &none, &["-m [1]", "flush a", "flush b", "-chain a", "-chain b", "-set m"]);
    }

    #[test]
    fn replacing_leaves_nothing_behind() {
        let words: Vec<_> = replace(&ruleset(&[("a", "")], &[])).iter().map(word).collect();
        assert_eq!(words, ["+table", "-table", "+table", "+chain a"]);
    }

    #[test]
    fn many_elements_are_cut_into_messages() {
        let mut new = ruleset(&[], &[("m", 0, "a")]);
        let set = new.sets.get_mut("m").expect("made above");
        for n in 0..1000u32 {
            set.elements.insert(n.to_be_bytes().to_vec(), Data::Verdict(Verdict::Drop));
        }
        assert_eq!(diff(&Ruleset::default(), &new).len(), 1 + 3);
    }
}
