//! Every way in that the configuration opens, put together once at start.
//!
//! Never: reads a credential itself; files are watched by those who know them.

use std::path::Path;
use std::sync::Arc;

use super::ServerError;
use super::auth::Authenticator;
use super::auth::authn::Ways;
use super::auth::authn::files::Watched;
use super::auth::authn::front_proxy::FrontProxy;
use super::auth::authn::oidc;
use super::auth::authn::passwords::{Passwords, Users};
use super::auth::authn::static_tokens::StaticTokens;
use super::auth::token::TokenKey;
use super::outbound::Outbound;
use super::store::Store;
use crate::config::ServerConfig;

/// Every way in that the configuration opens.
pub(super) fn authenticator(config: &ServerConfig, key: TokenKey, store: &Store) -> Result<Authenticator, ServerError> {
    let failed = |flag, path: &Path| {
        let path = path.to_owned();
        move |source| ServerError::AuthFile { flag, path, source }
    };
    let tokens = config
        .auth
        .token_file
        .as_deref()
        .map(|path| Watched::open(path, StaticTokens::parse).map(Arc::new).map_err(failed("token-auth-file", path)));
    let passwords = config.auth.password_file.as_deref().map(|path| {
        let file = Watched::open(path, Users::parse).map_err(failed("basic-auth-file", path))?;
        Ok::<_, ServerError>(Arc::new(Passwords::new(Arc::new(file))))
    });
    let oidc = config.auth.oidc.clone().map(|oidc| {
        let settings = oidc::Settings {
            issuer_url: oidc.issuer_url,
            client_id: oidc.client_id,
            username_claim: oidc.username_claim,
            username_prefix: oidc.username_prefix,
            groups_claim: oidc.groups_claim,
            groups_prefix: oidc.groups_prefix,
            required_claims: oidc.required_claims,
            ca_pem: oidc.ca_pem,
            signing_algs: oidc.signing_algs,
        };
        Arc::new(oidc::Oidc::new(settings, Outbound::new(store.clone(), None)))
    });
    let proxy = &config.auth.front_proxy;
    let front_proxy = FrontProxy {
        allowed_names: proxy.allowed_names.clone(),
        username_headers: proxy.username_headers.clone(),
        uid_headers: proxy.uid_headers.clone(),
        group_headers: proxy.group_headers.clone(),
        extra_prefixes: proxy.extra_prefixes.clone(),
    };
    let ways = Ways {
        admin_token: config.token.clone(),
        tokens: tokens.transpose()?,
        passwords: passwords.transpose()?,
        oidc,
        front_proxy: Some(front_proxy),
    };
    Ok(Authenticator::with_ways(key, ways))
}
