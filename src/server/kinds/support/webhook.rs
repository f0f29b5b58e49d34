//! Rules of where a webhook is called (apiserver `pkg/util/webhook/validation.go`).

use super::path::{Errors, Path};
use crate::api::{FieldError, names};

/// A webhook's URL: HTTPS, and nothing but host and path.
pub fn url(errors: &mut Errors, path: &Path, url: &str) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None => (url.split_once(':').map_or("", |(scheme, _)| scheme), ""),
    };
    if url.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        let why = format!("url must be a valid URL: parse {url:?}: net/url: invalid control character in URL{FORM}");
        return errors.push(FieldError::required(path, why));
    }
    if scheme != "https" {
        errors.push(FieldError::invalid(path, scheme, format!("'https' is the only allowed URL scheme{FORM}")));
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    if host.is_empty() {
        errors.push(FieldError::invalid(path, host, format!("host must be specified{FORM}")));
    }
    if let Some(user) = user {
        errors.push(FieldError::invalid(path, user, "user information is not permitted in the URL"));
    }
    for (what, value) in [("fragments", fragment), ("query parameters", query)] {
        if !value.is_empty() {
            errors.push(FieldError::invalid(path, value, format!("{what} are not permitted in the URL")));
        }
    }
}

/// A webhook's Service.
pub fn service(errors: &mut Errors, path: &Path, name: &str, namespace: &str, url_path: Option<&str>, port: i32) {
    for (field, value) in [("name", name), ("namespace", namespace)] {
        if value.is_empty() {
            errors.push(FieldError::required(path.at(field), ""));
        }
    }
    if let Err(why) = names::port_number(port) {
        errors.push(FieldError::invalid(path.at("port"), port, format!("port is not valid: {why}")));
    }
    let Some(url_path) = url_path.filter(|path| !path.is_empty() && *path != "/") else { return };
    let path = path.at("path");
    if url_path == "//" {
        return errors.push(FieldError::invalid(path, url_path, "segment[0] may not be empty"));
    }
    if !url_path.starts_with('/') {
        errors.push(FieldError::invalid(&path, url_path, "must start with a '/'"));
    }
    let mut chars = url_path.chars();
    chars.next();
    let steps = chars.as_str();
    for (index, step) in steps.strip_suffix('/').unwrap_or(steps).split('/').enumerate() {
        if step.is_empty() {
            errors.push(FieldError::invalid(&path, url_path, format!("segment[{index}] may not be empty")));
        } else if let Err(why) = names::subdomain(step) {
            errors.push(FieldError::invalid(&path, url_path, format!("segment[{index}]: {why}")));
        }
    }
}

/// Why a bundle of certificates is none.
pub fn bundle(bundle: &[u8]) -> Result<(), String> {
    match rustls_pemfile::certs(&mut &*bundle).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(()),
        Ok(_) => Err("unable to load root certificates: unable to parse bytes as PEM block".into()),
        Err(error) => Err(format!("unable to load root certificates: {error}")),
    }
}
