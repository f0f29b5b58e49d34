//! Label selectors.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as ApiSelector;

use super::SelectorError;
use super::parser::Parser;

/// The operator of a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `key in (a,b)`
    In,
    /// `key notin (a,b)`; also satisfied without the key.
    NotIn,
    /// `key=a`
    Equals,
    /// `key==a`
    DoubleEquals,
    /// `key!=a`; also satisfied without the key.
    NotEquals,
    /// `key`
    Exists,
    /// `!key`
    DoesNotExist,
    /// `key>1`
    GreaterThan,
    /// `key<1`
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelRequirement {
    key: String,
    operator: Operator,
    values: BTreeSet<String>,
}

/// A selection by labels. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// Selects nothing, whatever the requirements: the absent selector.
    nothing: bool,
    /// Sorted by key.
    requirements: Vec<LabelRequirement>,
}

impl LabelSelector {
    /// Parses the text form: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`. Empty text selects everything.
    pub fn parse(text: &str) -> Result<LabelSelector, SelectorError> {
        Ok(LabelSelector::of(Parser::new(text).selector()?))
    }

    /// The selector of an API object. Absent selects nothing, empty selects everything.
    pub fn from_api(selector: Option<&ApiSelector>) -> Result<LabelSelector, SelectorError> {
        let Some(selector) = selector else { return Ok(LabelSelector::nothing()) };
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(LabelRequirement::new(key, Operator::Equals, BTreeSet::from([value.clone()]))?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(SelectorError::Operator(other.into())),
            };
            let values = expression.values.iter().flatten().cloned().collect();
            requirements.push(LabelRequirement::new(&expression.key, operator, values)?);
        }
        Ok(LabelSelector::of(requirements))
    }

    /// The selector of a plain map, such as a Service's: every pair must be there. Not validated, as upstream's
    /// `SelectorFromSet` of stored objects. Empty selects everything; callers for whom it means nothing must look first.
    pub fn from_map(labels: &BTreeMap<String, String>) -> LabelSelector {
        let one = |(key, value): (&String, &String)| LabelRequirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: BTreeSet::from([value.clone()]),
        };
        LabelSelector { nothing: false, requirements: labels.iter().map(one).collect() }
    }

    /// The selector that selects nothing.
    pub fn nothing() -> LabelSelector {
        LabelSelector { nothing: true, requirements: Vec::new() }
    }

    fn of(mut requirements: Vec<LabelRequirement>) -> LabelSelector {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        LabelSelector { nothing: false, requirements }
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.matches(labels))
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// The labels that everything selected has with these very values: what an index can find it by.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.requirements.iter().filter_map(LabelRequirement::pair)
    }

    /// Its requirements, by key.
    pub fn requirements(&self) -> impl Iterator<Item = &LabelRequirement> {
        self.requirements.iter()
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl LabelRequirement {
    /// A requirement, validated as upstream's `NewRequirement`.
    pub fn new(key: &str, operator: Operator, values: BTreeSet<String>) -> Result<LabelRequirement, SelectorError> {
        check_key("key", key)?;
        let shown = || format!("{:?}", values.iter().collect::<Vec<_>>());
        let fail =
            |field: &str, value: String, detail: &str| Err(SelectorError::Invalid { field: field.into(), value, detail: detail.into() });
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                return fail("values", "[]".into(), "for 'in', 'notin' operators, values set can't be empty");
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                return fail("values", shown(), "exact-match compatibility requires one single value");
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                return fail("values", shown(), "values set must be empty for exists and does not exist");
            }
            Operator::GreaterThan | Operator::LessThan => {
                if values.len() != 1 {
                    return fail("values", shown(), "for 'Gt', 'Lt' operators, exactly one value is required");
                }
                if let Some(value) = values.iter().find(|v| v.parse::<i64>().is_err()) {
                    return fail("values[0]", format!("{value:?}"), "for 'Gt', 'Lt' operators, the value must be an integer");
                }
            }
            _ => {}
        }
        for (index, value) in values.iter().enumerate() {
            check_value(&format!("values[{index}][{key}]"), value)?;
        }
        Ok(LabelRequirement { key: key.into(), operator, values })
    }

    /// The label and its one value, where nothing else will do.
    fn pair(&self) -> Option<(&str, &str)> {
        let equals = matches!(self.operator, Operator::In | Operator::Equals | Operator::DoubleEquals) && self.values.len() == 1;
        self.values.first().filter(|_| equals).map(|value| (self.key.as_str(), value.as_str()))
    }

    /// The label's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The operator.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values it is about; none for existence.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(String::as_str)
    }

    fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        let value = labels.and_then(|labels| labels.get(&self.key));
        let compare = |ordering| {
            let bound = self.values.first().and_then(|v| v.parse::<i64>().ok());
            // A label that is no number satisfies neither.
            value.and_then(|v| v.parse::<i64>().ok()).zip(bound).is_some_and(|(value, bound)| value.cmp(&bound) == ordering)
        };
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn | Operator::NotEquals => value.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => compare(std::cmp::Ordering::Greater),
            Operator::LessThan => compare(std::cmp::Ordering::Less),
        }
    }
}

impl fmt::Display for LabelRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = || self.values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        match self.operator {
            Operator::Exists => f.write_str(&self.key),
            Operator::DoesNotExist => write!(f, "!{}", self.key),
            Operator::Equals => write!(f, "{}={}", self.key, values()),
            Operator::DoubleEquals => write!(f, "{}=={}", self.key, values()),
            Operator::NotEquals => write!(f, "{}!={}", self.key, values()),
            Operator::GreaterThan => write!(f, "{}>{}", self.key, values()),
            Operator::LessThan => write!(f, "{}<{}", self.key, values()),
            Operator::In => write!(f, "{} in ({})", self.key, values()),
            Operator::NotIn => write!(f, "{} notin ({})", self.key, values()),
        }
    }
}

fn invalid(field: &str, value: &str, detail: String) -> SelectorError {
    SelectorError::Invalid { field: field.into(), value: format!("{value:?}"), detail }
}

const NAME_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character \
     (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
     and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
     '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const PREFIX_RULE: &str = "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
     must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// Letters, digits, `-`, `_` and `.`, with a letter or digit at both ends.
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = bytes.first().zip(bytes.last()).is_some_and(|(a, z)| a.is_ascii_alphanumeric() && z.is_ascii_alphanumeric());
    ends && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(|label| {
        let bytes = label.as_bytes();
        let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        bytes.first().zip(bytes.last()).is_some_and(|(a, z)| plain(a) && plain(z)) && bytes.iter().all(|b| plain(b) || *b == b'-')
    })
}

/// Every rule of upstream's `IsQualifiedName` that `key` breaks.
fn key_faults(key: &str) -> Vec<String> {
    let (prefix, name) = match key.split('/').collect::<Vec<_>>()[..] {
        [name] => (None, name),
        [prefix, name] => (Some(prefix), name),
        _ => {
            return vec![format!("a qualified name {NAME_RULE} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')")];
        }
    };
    let mut faults = Vec::new();
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            faults.push("prefix part must be non-empty".to_owned());
        } else {
            if prefix.len() > 253 {
                faults.push("prefix part must be no more than 253 bytes".to_owned());
            }
            if !is_subdomain(prefix) {
                faults.push(PREFIX_RULE.to_owned());
            }
        }
    }
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        faults.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_name(name) {
        faults.push(format!("name part {NAME_RULE}"));
    }
    faults
}

/// Whether `key` is a legal label key; `field` is what the error calls it.
pub(super) fn check_key(field: &str, key: &str) -> Result<(), SelectorError> {
    let faults = key_faults(key);
    if faults.is_empty() { Ok(()) } else { Err(invalid(field, key, faults.join("; "))) }
}

fn check_value(field: &str, value: &str) -> Result<(), SelectorError> {
    let mut faults = Vec::new();
    if value.len() > 63 {
        faults.push("must be no more than 63 bytes");
    }
    if !value.is_empty() && !is_name(value) {
        faults.push(VALUE_RULE);
    }
    if faults.is_empty() { Ok(()) } else { Err(invalid(field, value, faults.join("; "))) }
}

#[cfg(test)]
#[path = "labels_tests.rs"]
mod tests;
