//! Levels, versions, and the labels of a namespace that choose them (pod-security-admission `api`).

use std::collections::BTreeMap;
use std::fmt;

use crate::api::FieldError;

/// How strict. In order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything goes.
    Privileged,
    /// Known ways to more rights are closed.
    Baseline,
    /// Hardened.
    Restricted,
}

impl Level {
    const ALL: [(&str, Level); 3] = [("privileged", Level::Privileged), ("baseline", Level::Baseline), ("restricted", Level::Restricted)];

    fn parse(text: &str) -> Result<Level, &'static str> {
        let found = Level::ALL.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, level)| level).ok_or("must be one of privileged, baseline, restricted")
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Level::ALL.iter().find(|(_, level)| level == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// Of which Kubernetes the rules are: `v1.MINOR`, or always the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `v1.N`
    Minor(u32),
    /// `latest`
    Latest,
}

impl Version {
    fn parse(text: &str) -> Result<Version, &'static str> {
        if text == "latest" {
            return Ok(Version::Latest);
        }
        let digits = text.strip_prefix("v1.").filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        // No leading zero, no sign.
        let minor = digits.filter(|digits| *digits == "0" || !digits.starts_with('0')).and_then(|digits| digits.parse().ok());
        minor.map(Version::Minor).ok_or("must be \"latest\" or \"v1.x\"")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Minor(minor) => write!(f, "v1.{minor}"),
            Version::Latest => f.write_str("latest"),
        }
    }
}

/// A level of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standard {
    /// How strict.
    pub level: Level,
    /// Of which version.
    pub version: Version,
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

/// What a namespace wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What is refused.
    pub enforce: Standard,
    /// What is noted in the audit log.
    pub audit: Standard,
    /// What the client is told.
    pub warn: Standard,
}

/// Namespaces that say nothing.
const DEFAULT: Standard = Standard { level: Level::Privileged, version: Version::Latest };
const PREFIX: &str = "pod-security.kubernetes.io/";

impl Policy {
    /// What the labels of a namespace say, and what of that is wrong. A wrong level enforces the strictest, and audits and warns of
    /// nothing; a wrong version is the newest.
    pub fn of(labels: Option<&BTreeMap<String, String>>) -> (Policy, Vec<FieldError>) {
        let mut errors = Vec::new();
        let mut policy = Policy { enforce: DEFAULT, audit: DEFAULT, warn: DEFAULT };
        let modes = [
            ("enforce", &mut policy.enforce, Level::Restricted),
            ("audit", &mut policy.audit, Level::Privileged),
            ("warn", &mut policy.warn, Level::Privileged),
        ];
        for (mode, standard, fallback) in modes {
            let label = |suffix: &str| {
                let key = format!("{PREFIX}{mode}{suffix}");
                labels.and_then(|labels| labels.get(&key)).map(|value| (format!("metadata.labels[{key}]"), value))
            };
            if let Some((field, text)) = label("") {
                standard.level = Level::parse(text).unwrap_or_else(|why| {
                    errors.push(FieldError::invalid(field, text, why));
                    fallback
                });
            }
            if let Some((field, text)) = label("-version") {
                standard.version = Version::parse(text).unwrap_or_else(|why| {
                    errors.push(FieldError::invalid(field, text, why));
                    Version::Latest
                });
            }
        }
        (policy, errors)
    }

    /// Whether no mode asks for anything.
    pub fn is_privileged(&self) -> bool {
        self.enforce.level == Level::Privileged && self.is_quiet()
    }

    /// Whether neither audit nor warnings are wanted.
    pub fn is_quiet(&self) -> bool {
        self.audit.level == Level::Privileged && self.warn.level == Level::Privileged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        // (labels, enforce, audit, warn, errors)
        let cases = [
            ("{}", "privileged:latest", "privileged:latest", "privileged:latest", ""),
            (
                "{enforce: baseline, enforce-version: v1.20, warn: restricted}",
                "baseline:v1.20",
                "privileged:latest",
                "restricted:latest",
                "",
            ),
            (
                "{enforce: x, audit: y, warn-version: v2}",
                "restricted:latest",
                "privileged:latest",
                "privileged:latest",
                "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": must be one of privileged, baseline, restricted; \
                 metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"y\": must be one of privileged, baseline, restricted; \
                 metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v2\": must be \"latest\" or \"v1.x\"",
            ),
            (
                "{enforce-version: v1.01}",
                "privileged:latest",
                "privileged:latest",
                "privileged:latest",
                "metadata.labels[pod-security.kubernetes.io/enforce-version]: Invalid value: \"v1.01\": must be \"latest\" or \"v1.x\"",
            ),
        ];
        for (labels, enforce, audit, warn, errors) in cases {
            let labels: BTreeMap<String, String> = serde_yaml::from_str(labels).expect("a map");
            let labels = labels.into_iter().map(|(key, value)| (format!("{PREFIX}{key}"), value)).collect();
            let (policy, found) = Policy::of(Some(&labels));
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            let shown = [policy.enforce, policy.audit, policy.warn].map(|standard| standard.to_string());
            assert_eq!(shown, [enforce, audit, warn], "{labels:?}");
            assert_eq!(found.join("; "), errors, "{labels:?}");
        }
    }
}
