//! The file that says which resources are encrypted and with which keys: `EncryptionConfiguration` of `apiserver.config.k8s.io/v1`.
//!
//! Follows upstream's `apiserver/pkg/apis/apiserver/v1/types_encryption.go` and its validation, texts included. KMS providers are
//! refused: this server calls nobody for its keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::cipher::Cipher;
use crate::api::FieldError;

/// What the file's `apiVersion` and `kind` must be.
pub const API_VERSION: &str = "apiserver.config.k8s.io/v1";
/// See [`API_VERSION`].
pub const KIND: &str = "EncryptionConfiguration";

/// The file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EncryptionConfiguration {
    /// [`API_VERSION`].
    pub api_version: String,
    /// [`KIND`].
    pub kind: String,
    /// Looked at in order; the first entry that names a resource decides for it.
    #[serde(default)]
    pub resources: Vec<ResourceConfiguration>,
}

/// Resources and how they are kept.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceConfiguration {
    /// `secrets`, `deployments.apps`, `*.apps`, `*.` (core), `*.*`.
    #[serde(default)]
    pub resources: Vec<String>,
    /// The first one seals; all of them are tried for opening.
    #[serde(default)]
    pub providers: Vec<Provider>,
}

/// One way of keeping; exactly one field is set.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// AES-GCM with random nonces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aesgcm: Option<Keys>,
    /// AES-CBC with PKCS#7 padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aescbc: Option<Keys>,
    /// XSalsa20 and Poly1305.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secretbox: Option<Keys>,
    /// As it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// A key service; refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms: Option<serde_json::Value>,
}

/// `identity: {}`.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {}

/// Keys; the first one seals.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The keys.
    #[serde(default)]
    pub keys: Vec<NamedKey>,
}

/// One key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedKey {
    /// Written beside what it seals.
    #[serde(default)]
    pub name: String,
    /// Base64.
    #[serde(default)]
    pub secret: String,
}

/// One entry, ready for use.
pub(super) struct Rule {
    pub resources: Vec<Pattern>,
    pub ciphers: Vec<Cipher>,
}

/// `RESOURCE.GROUP`, either of which may be `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    resource: String,
    group: String,
}

impl Pattern {
    fn parse(text: &str) -> Pattern {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        Pattern { resource: resource.into(), group: group.into() }
    }

    pub(super) fn fits(&self, group: &str, resource: &str) -> bool {
        (self.group == "*" || self.group == group) && (self.resource == "*" || self.resource == resource)
    }
}

impl EncryptionConfiguration {
    /// The file with these entries.
    pub fn of(resources: Vec<ResourceConfiguration>) -> EncryptionConfiguration {
        EncryptionConfiguration { api_version: API_VERSION.into(), kind: KIND.into(), resources }
    }

    /// Reads YAML or JSON.
    pub fn parse(text: &str) -> Result<EncryptionConfiguration, String> {
        let config: EncryptionConfiguration = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        if config.api_version != API_VERSION || config.kind != KIND {
            return Err(format!("it is a {:?} of {:?}, not {KIND} of {API_VERSION}", config.kind, config.api_version));
        }
        Ok(config)
    }

    /// Everything that is wrong with it, as upstream says it.
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if self.resources.is_empty() {
            errors.push(FieldError::required("resources", "at least one resources is required"));
        }
        for (index, entry) in self.resources.iter().enumerate() {
            let at = format!("resources[{index}].resources");
            if entry.resources.is_empty() {
                errors.push(FieldError::required(&at, format!("at least one {at} is required")));
            }
            validate_resources(&entry.resources, &at, &mut errors);
            let at = format!("resources[{index}].providers");
            if entry.providers.is_empty() {
                errors.push(FieldError::required(&at, format!("at least one {at} is required")));
            }
            for (index, provider) in entry.providers.iter().enumerate() {
                provider.validate(&format!("{at}[{index}]"), &mut errors);
            }
        }
        errors
    }

    /// The rules of a valid file.
    pub(super) fn rules(&self) -> Result<Vec<Rule>, String> {
        let rule = |entry: &ResourceConfiguration| {
            let mut ciphers = Vec::new();
            for provider in &entry.providers {
                ciphers.extend(provider.ciphers()?);
            }
            Ok(Rule { resources: entry.resources.iter().map(|text| Pattern::parse(text)).collect(), ciphers })
        };
        self.resources.iter().map(rule).collect()
    }
}

fn validate_resources(resources: &[String], at: &str, errors: &mut Vec<FieldError>) {
    const OVERLAP: &str =
        "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked";
    let patterns: Vec<Pattern> = resources.iter().map(|text| Pattern::parse(text)).collect();
    let pairs = || patterns.iter().enumerate().flat_map(|(i, a)| patterns.iter().skip(i + 1).map(move |b| (a, b)));
    let all = |p: &Pattern| p.group == "*" && p.resource == "*";
    if pairs().any(|(a, b)| a == b) {
        errors.push(FieldError::invalid(at, resources, "the same resource cannot be specified multiple times"));
    }
    let overlaps = |a: &Pattern, b: &Pattern| all(a) || all(b) || (a.group == b.group && (a.resource == "*" || b.resource == "*"));
    if pairs().any(|(a, b)| a != b && overlaps(a, b)) {
        errors.push(FieldError::invalid(at, resources, OVERLAP));
    }
    for (index, (text, pattern)) in resources.iter().zip(&patterns).enumerate() {
        let why = match (text.as_str(), pattern) {
            (text, _) if text.chars().any(char::is_uppercase) => "resource name should not contain capital letters",
            ("*", _) => "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources",
            ("apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations", _) => {
                "resources which do not have REST API/s cannot be encrypted"
            }
            (_, pattern) if pattern.group == "events.k8s.io" => {
                "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file"
            }
            (_, pattern) if pattern.group == "extensions" => "'extensions' group has been removed and cannot be used for encryption",
            (_, pattern) if pattern.group == "*" && pattern.resource != "*" => {
                "encrypting the same resource across groups is not supported"
            }
            _ => continue,
        };
        errors.push(FieldError::invalid(format!("{at}[{index}]"), text, why));
    }
}

/// Makes a cipher of a name and a key.
type Make = fn(&str, &[u8]) -> Result<Cipher, String>;

impl Provider {
    /// The kinds of keys that are set, with their field, legal lengths and cipher.
    fn keyed(&self) -> impl Iterator<Item = (&'static str, &Keys, &'static [usize], Make)> {
        let all: [(&str, &Option<Keys>, &[usize], Make); 3] = [
            // ring has no AES-192.
            ("aesgcm", &self.aesgcm, &[16, 32], Cipher::aesgcm),
            ("aescbc", &self.aescbc, &[16, 24, 32], Cipher::aescbc),
            ("secretbox", &self.secretbox, &[32], Cipher::secretbox),
        ];
        all.into_iter().filter_map(|(field, keys, sizes, make)| keys.as_ref().map(|keys| (field, keys, sizes, make)))
    }

    fn validate(&self, at: &str, errors: &mut Vec<FieldError>) {
        let set = self.keyed().count() + usize::from(self.identity.is_some()) + usize::from(self.kms.is_some());
        let why = match set {
            0 => "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity",
            1 if self.kms.is_some() => "KMS providers are not supported by this server; use aesgcm, aescbc or secretbox",
            1 => "",
            _ => "more than one provider specified in a single element, should split into different list elements",
        };
        if !why.is_empty() {
            return errors.push(FieldError::invalid(at, "REDACTED", why));
        }
        for (field, keys, sizes, _) in self.keyed() {
            let at = format!("{at}.{field}.keys");
            if keys.keys.is_empty() {
                errors.push(FieldError::required(&at, "at least one keys is required"));
            }
            for (index, key) in keys.keys.iter().enumerate() {
                key.validate(&format!("{at}[{index}]"), sizes, errors);
            }
        }
    }

    fn ciphers(&self) -> Result<Vec<Cipher>, String> {
        let mut ciphers = Vec::new();
        for (_, keys, _, make) in self.keyed() {
            for key in &keys.keys {
                ciphers.push(make(&key.name, &key.bytes()?)?);
            }
        }
        ciphers.extend(self.identity.is_some().then_some(Cipher::Identity));
        Ok(ciphers)
    }
}

impl NamedKey {
    fn bytes(&self) -> Result<Vec<u8>, String> {
        STANDARD.decode(&self.secret).map_err(|_| format!("the secret of key {:?} is not base64", self.name))
    }

    fn validate(&self, at: &str, sizes: &[usize], errors: &mut Vec<FieldError>) {
        if self.name.is_empty() {
            errors.push(FieldError::required(format!("{at}.name"), "name is a mandatory field for a key"));
        }
        let at = format!("{at}.secret");
        if self.secret.is_empty() {
            return errors.push(FieldError::required(at, "secret is a mandatory field for a key"));
        }
        let Ok(bytes) = self.bytes() else { return errors.push(FieldError::invalid(at, "REDACTED", "secrets must be base64 encoded")) };
        if !sizes.contains(&bytes.len()) {
            let sizes = sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let why = format!("secret is not of the expected length, got {}, expected one of [{sizes}]", bytes.len());
            errors.push(FieldError::invalid(at, "REDACTED", why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(resources: &str) -> Vec<String> {
        let text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\nresources: {resources}\n");
        EncryptionConfiguration::parse(&text).expect("parses").validate().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_wrong_is_said_as_upstream_says_it() {
        let key = |secret: &str| format!("{{keys: [{{name: k, secret: {secret:?}}}]}}");
        let good = key("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
        for (resources, want) in [
            (format!("[{{resources: [secrets], providers: [{{aesgcm: {good}}}, {{identity: {{}}}}]}}]"), ""),
            ("[]".into(), "resources: Required value: at least one resources is required"),
            (
                "[{providers: [{identity: {}}]}]".into(),
                "resources[0].resources: Required value: at least one resources[0].resources is required",
            ),
            ("[{resources: [secrets]}]".into(), "resources[0].providers: Required value: at least one resources[0].providers is required"),
            ("[{resources: [secrets], providers: [{}]}]".into(), "does not contain any of the expected providers"),
            (format!("[{{resources: [secrets], providers: [{{aescbc: {good}, identity: {{}}}}]}}]"), "more than one provider specified"),
            ("[{resources: [secrets], providers: [{kms: {name: x}}]}]".into(), "KMS providers are not supported"),
            (format!("[{{resources: [secrets], providers: [{{secretbox: {}}}]}}]", key("MDEyMw==")), "got 4, expected one of [32]"),
            (format!("[{{resources: [secrets], providers: [{{secretbox: {}}}]}}]", key("?")), "secrets must be base64 encoded"),
            ("[{resources: [secrets, '*.'], providers: [{identity: {}}]}]".into(), "overlapping resources"),
            ("[{resources: [secrets, secrets], providers: [{identity: {}}]}]".into(), "specified multiple times"),
            ("[{resources: ['*'], providers: [{identity: {}}]}]".into(), "use '*.' to encrypt"),
            ("[{resources: [Secrets], providers: [{identity: {}}]}]".into(), "capital letters"),
            ("[{resources: [pods.*], providers: [{identity: {}}]}]".into(), "across groups"),
        ] {
            let errors = wrong(&resources);
            match want {
                "" => assert!(errors.is_empty(), "{errors:?}"),
                want => assert!(errors.iter().any(|error| error.contains(want)), "{resources}: {errors:?}"),
            }
        }
        assert!(EncryptionConfiguration::parse("apiVersion: v1\nkind: Secret\n").is_err_and(|e| e.contains("not EncryptionConfiguration")));
        assert!(EncryptionConfiguration::parse("apiVersion: v1\nkind: Secret\nmore: 1\n").is_err_and(|e| e.contains("unknown field")));
    }

    #[test]
    fn patterns() {
        for (text, group, resource, want) in [
            ("secrets", "", "secrets", true),
            ("secrets", "x", "secrets", false),
            ("*.", "", "pods", true),
            ("*.", "apps", "deployments", false),
            ("deployments.apps", "apps", "deployments", true),
            ("*.apps", "apps", "deployments", true),
            ("*.*", "a.b.c", "things", true),
            ("things.a.b.c", "a.b.c", "things", true),
        ] {
            assert_eq!(Pattern::parse(text).fits(group, resource), want, "{text}");
        }
    }
}
