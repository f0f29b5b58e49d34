//! Flags about who may ask: files of tokens and passwords, OpenID Connect, front proxies. Named as upstream's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{ConfigError, absolute};

/// Flags of authentication.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Authentication")]
pub struct AuthArgs {
    /// Static bearer tokens: lines of token,user,uid,"group1,group2"; read again when it changes
    #[arg(long, env = "ORCH_TOKEN_AUTH_FILE", value_name = "FILE")]
    pub token_auth_file: Option<PathBuf>,
    /// Passwords for HTTP basic authentication: lines of user:bcrypt-hash[:uid[:group1,group2]]; read again when it changes
    #[arg(long, env = "ORCH_BASIC_AUTH_FILE", value_name = "FILE")]
    pub basic_auth_file: Option<PathBuf>,
    /// OpenID Connect issuer whose ID tokens are accepted; https only
    #[arg(long, env = "ORCH_OIDC_ISSUER_URL", value_name = "URL")]
    pub oidc_issuer_url: Option<String>,
    /// Client that ID tokens must be issued for
    #[arg(long, env = "ORCH_OIDC_CLIENT_ID", value_name = "ID")]
    pub oidc_client_id: Option<String>,
    /// Claim with the user's name
    #[arg(long, env = "ORCH_OIDC_USERNAME_CLAIM", default_value = "sub", value_name = "CLAIM")]
    pub oidc_username_claim: String,
    /// Put before user names; - for nothing [default: the issuer's URL and #, nothing for the claim "email"]
    #[arg(long, env = "ORCH_OIDC_USERNAME_PREFIX", value_name = "PREFIX", allow_hyphen_values = true)]
    pub oidc_username_prefix: Option<String>,
    /// Claim with the user's groups: a string or a list of strings
    #[arg(long, env = "ORCH_OIDC_GROUPS_CLAIM", value_name = "CLAIM")]
    pub oidc_groups_claim: Option<String>,
    /// Put before group names
    #[arg(long, env = "ORCH_OIDC_GROUPS_PREFIX", default_value = "", value_name = "PREFIX")]
    pub oidc_groups_prefix: String,
    /// Claim that must be there with this value; may be repeated
    #[arg(long, env = "ORCH_OIDC_REQUIRED_CLAIM", value_delimiter = ',', value_name = "KEY=VALUE")]
    pub oidc_required_claim: Vec<String>,
    /// Authorities that sign the issuer's certificate, PEM [default: the system's]
    #[arg(long, env = "ORCH_OIDC_CA_FILE", value_name = "FILE")]
    pub oidc_ca_file: Option<PathBuf>,
    /// Accepted signatures of ID tokens: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384
    #[arg(long, env = "ORCH_OIDC_SIGNING_ALGS", default_value = "RS256", value_delimiter = ',', value_name = "ALGS")]
    pub oidc_signing_algs: Vec<String>,
    /// Authorities that sign front proxies' client certificates, PEM [default: one of this server's own]
    #[arg(long, env = "ORCH_REQUESTHEADER_CLIENT_CA_FILE", value_name = "FILE")]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of front proxies; an empty one allows any that the authority signed
    #[arg(
        long,
        env = "ORCH_REQUESTHEADER_ALLOWED_NAMES",
        default_value = "front-proxy-client",
        value_delimiter = ',',
        value_name = "NAMES"
    )]
    pub requestheader_allowed_names: Vec<String>,
    /// Headers in which front proxies name the user
    #[arg(
        long,
        env = "ORCH_REQUESTHEADER_USERNAME_HEADERS",
        default_value = "X-Remote-User",
        value_delimiter = ',',
        value_name = "HEADERS"
    )]
    pub requestheader_username_headers: Vec<String>,
    /// Headers in which front proxies tell the user's uid
    #[arg(long, env = "ORCH_REQUESTHEADER_UID_HEADERS", default_value = "X-Remote-Uid", value_delimiter = ',', value_name = "HEADERS")]
    pub requestheader_uid_headers: Vec<String>,
    /// Headers in which front proxies name groups
    #[arg(long, env = "ORCH_REQUESTHEADER_GROUP_HEADERS", default_value = "X-Remote-Group", value_delimiter = ',', value_name = "HEADERS")]
    pub requestheader_group_headers: Vec<String>,
    /// Beginnings of headers in which front proxies tell more about the user
    #[arg(
        long,
        env = "ORCH_REQUESTHEADER_EXTRA_HEADERS_PREFIX",
        default_value = "X-Remote-Extra-",
        value_delimiter = ',',
        value_name = "PREFIXES"
    )]
    pub requestheader_extra_headers_prefix: Vec<String>,
}

/// `--oidc-*`, checked.
#[derive(Clone, Debug)]
pub struct OidcConfig {
    /// Of the issuer.
    pub issuer_url: String,
    /// Whom tokens are for.
    pub client_id: String,
    /// Claim with the name.
    pub username_claim: String,
    /// Put before names.
    pub username_prefix: String,
    /// Claim with groups.
    pub groups_claim: Option<String>,
    /// Put before groups.
    pub groups_prefix: String,
    /// What must be.
    pub required_claims: BTreeMap<String, String>,
    /// Whom to trust, PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// Algorithms.
    pub signing_algs: Vec<String>,
}

/// `--requestheader-*`, checked. Names of headers in lower case.
#[derive(Clone, Debug, Default)]
pub struct FrontProxyConfig {
    /// Authorities, PEM; `None`: one of this server's own.
    pub ca_pem: Option<String>,
    /// Common names; empty: any.
    pub allowed_names: Vec<String>,
    /// Headers.
    pub username_headers: Vec<String>,
    /// Headers.
    pub uid_headers: Vec<String>,
    /// Headers.
    pub group_headers: Vec<String>,
    /// Beginnings of headers.
    pub extra_prefixes: Vec<String>,
}

/// Who may ask, besides holders of certificates and of tokens of this cluster.
#[derive(Clone, Debug, Default)]
pub struct AuthConfig {
    /// `--token-auth-file`.
    pub token_file: Option<PathBuf>,
    /// `--basic-auth-file`.
    pub password_file: Option<PathBuf>,
    /// `--oidc-*`.
    pub oidc: Option<OidcConfig>,
    /// `--requestheader-*`.
    pub front_proxy: FrontProxyConfig,
}

/// Algorithms that can be checked.
const ALGS: &[&str] = &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"];

fn invalid(flag: &'static str, why: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { flag, why: why.into() }
}

fn certificates(flag: &'static str, path: &Path) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    match text.contains("-----BEGIN CERTIFICATE-----") {
        true => Ok(text),
        false => Err(invalid(flag, format!("{} has no PEM certificate in it", path.display()))),
    }
}

impl AuthConfig {
    /// Checks the flags and reads the authorities.
    pub(super) fn resolve(args: AuthArgs) -> Result<AuthConfig, ConfigError> {
        let file = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
        Ok(AuthConfig {
            token_file: file(&args.token_auth_file)?,
            password_file: file(&args.basic_auth_file)?,
            front_proxy: front_proxy(&args)?,
            oidc: oidc(args)?,
        })
    }
}

fn oidc(args: AuthArgs) -> Result<Option<OidcConfig>, ConfigError> {
    let given = |value: Option<String>| value.filter(|text| !text.is_empty());
    let (issuer_url, client_id) = match (given(args.oidc_issuer_url), given(args.oidc_client_id)) {
        (None, None) => return Ok(None),
        (Some(url), Some(id)) => (url, id),
        (None, Some(_)) => return Err(invalid("oidc-issuer-url", "it must be specified together with --oidc-client-id")),
        (Some(_), None) => return Err(invalid("oidc-client-id", "it must be specified together with --oidc-issuer-url")),
    };
    if !issuer_url.starts_with("https://") {
        return Err(invalid("oidc-issuer-url", format!("{issuer_url:?} is not https")));
    }
    if let Some(alg) = args.oidc_signing_algs.iter().find(|alg| !ALGS.contains(&alg.as_str())) {
        return Err(invalid("oidc-signing-algs", format!("{alg:?} is not one of {}", ALGS.join(", "))));
    }
    let mut required_claims = BTreeMap::new();
    for pair in &args.oidc_required_claim {
        let (key, value) = pair
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| invalid("oidc-required-claim", format!("{pair:?} is not of the form KEY=VALUE")))?;
        if required_claims.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(invalid("oidc-required-claim", format!("{key:?} is there twice")));
        }
    }
    let username_prefix = match args.oidc_username_prefix.as_deref() {
        Some("-") => String::new(),
        Some(prefix) if !prefix.is_empty() => prefix.to_owned(),
        _ if args.oidc_username_claim == "email" => String::new(),
        _ => format!("{issuer_url}#"),
    };
    let ca_pem = args.oidc_ca_file.as_deref().map(|path| certificates("oidc-ca-file", path)).transpose()?;
    Ok(Some(OidcConfig {
        issuer_url,
        client_id,
        username_claim: args.oidc_username_claim,
        username_prefix,
        groups_claim: given(args.oidc_groups_claim),
        groups_prefix: args.oidc_groups_prefix,
        required_claims,
        ca_pem: ca_pem.map(String::into_bytes),
        signing_algs: args.oidc_signing_algs,
    }))
}

fn front_proxy(args: &AuthArgs) -> Result<FrontProxyConfig, ConfigError> {
    let headers = |flag: &'static str, names: &[String]| -> Result<Vec<String>, ConfigError> {
        let legal = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        match names.iter().map(|name| name.trim()).find(|name| !legal(name)) {
            Some(wrong) => Err(invalid(flag, format!("{wrong:?} is no name of a header"))),
            None => Ok(names.iter().map(|name| name.trim().to_ascii_lowercase()).collect()),
        }
    };
    let ca = args.requestheader_client_ca_file.as_deref().map(|path| certificates("requestheader-client-ca-file", path)).transpose()?;
    Ok(FrontProxyConfig {
        ca_pem: ca,
        allowed_names: args.requestheader_allowed_names.iter().filter(|name| !name.is_empty()).cloned().collect(),
        username_headers: headers("requestheader-username-headers", &args.requestheader_username_headers)?,
        uid_headers: headers("requestheader-uid-headers", &args.requestheader_uid_headers)?,
        group_headers: headers("requestheader-group-headers", &args.requestheader_group_headers)?,
        extra_prefixes: headers("requestheader-extra-headers-prefix", &args.requestheader_extra_headers_prefix)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> AuthArgs {
        AuthArgs {
            oidc_issuer_url: Some("https://i".into()),
            oidc_client_id: Some("c".into()),
            oidc_username_claim: "sub".into(),
            oidc_signing_algs: vec!["RS256".into()],
            ..AuthArgs::default()
        }
    }

    #[test]
    fn prefixes_of_names() {
        let prefix = |claim: &str, prefix: Option<&str>| {
            let args = AuthArgs { oidc_username_claim: claim.into(), oidc_username_prefix: prefix.map(String::from), ..args() };
            AuthConfig::resolve(args).unwrap().oidc.unwrap().username_prefix
        };
        for (claim, given, want) in [
            ("sub", None, "https://i#"),
            ("email", None, ""),
            ("sub", Some("-"), ""),
            ("email", Some("x:"), "x:"),
            ("sub", Some(""), "https://i#"),
        ] {
            assert_eq!(prefix(claim, given), want, "{claim} {given:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        for (args, want) in [
            (AuthArgs { oidc_client_id: None, ..args() }, "--oidc-client-id: it must be specified together"),
            (AuthArgs { oidc_issuer_url: None, ..args() }, "--oidc-issuer-url: it must be specified together"),
            (AuthArgs { oidc_issuer_url: Some("http://i".into()), ..args() }, "is not https"),
            (AuthArgs { oidc_signing_algs: vec!["none".into()], ..args() }, "\"none\" is not one of RS256"),
            (AuthArgs { oidc_required_claim: vec!["a".into()], ..args() }, "\"a\" is not of the form KEY=VALUE"),
            (AuthArgs { oidc_required_claim: vec!["a=b".into(), "a=c".into()], ..args() }, "\"a\" is there twice"),
            (AuthArgs { oidc_ca_file: Some(empty), ..args() }, "has no PEM certificate in it"),
            (AuthArgs { oidc_ca_file: Some("/none/there".into()), ..args() }, "reading /none/there"),
            (AuthArgs { requestheader_username_headers: vec!["a b".into()], ..args() }, "\"a b\" is no name of a header"),
        ] {
            let error = AuthConfig::resolve(args).unwrap_err().to_string();
            assert!(error.contains(want), "{error:?} should say {want:?}");
        }
    }
}
