//! Name and label syntax, with upstream's error texts.
//!
//! Follows apimachinery `pkg/util/validation/validation.go`. Each function says what is wrong with a value, or `Ok(())`.
//! The texts are part of the API: clients show them and tests of other projects compare them.
//!
//! Never: knowledge of a kind; which rule holds for which field is the kinds' own matter.

use std::net::IpAddr;

const LABEL_MAX: usize = 63;
const SUBDOMAIN_MAX: usize = 253;
const PORT_NAME_MAX: usize = 15;

const LABEL_TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
     with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
     must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const SEARCH_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-', '_' or '.', and \
     must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?(\\.[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?)*')";
const DNS1035_TEXT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
     character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation \
     is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const WILDCARD_TEXT: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of \
     lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for \
     validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED_TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
     alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation \
     is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_TEXT: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
     must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
     '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY_TEXT: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
     'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_NAME_TEXT: &str = "a valid environment variable name must consist only of printable ASCII characters other than '='";
const C_IDENTIFIER_TEXT: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric \
     characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";

const REASON_TEXT: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric \
     characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or \
     'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";

/// Upstream's `MaxLenError`.
pub fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn rule(holds: bool, text: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(text.into()) }
}

fn is_lower_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(first), Some(last)) if inner(*first) && inner(*last))
        && bytes.iter().all(|b| inner(*b) || *b == b'-')
}

fn is_lower_subdomain(text: &str) -> bool {
    text.split('.').all(is_lower_label)
}

fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(first), Some(last)) if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

/// A DNS-1123 label: namespaces, containers, volumes.
pub fn label(name: &str) -> Result<(), String> {
    rule(name.len() <= LABEL_MAX, too_long(LABEL_MAX))?;
    rule(is_lower_label(name), LABEL_TEXT)
}

/// A DNS-1123 subdomain: most object names.
pub fn subdomain(name: &str) -> Result<(), String> {
    rule(name.len() <= SUBDOMAIN_MAX, too_long(SUBDOMAIN_MAX))?;
    rule(is_lower_subdomain(name), SUBDOMAIN_TEXT)
}

/// A domain that a resolver searches: like a subdomain, with `_` allowed.
pub fn search_domain(name: &str) -> Result<(), String> {
    let part = |part: &str| is_lower_label(&part.replace('_', "a"));
    rule(name.len() <= SUBDOMAIN_MAX, too_long(SUBDOMAIN_MAX))?;
    rule(name.split('.').all(part), SEARCH_TEXT)
}

/// A DNS-1035 label: services.
pub fn dns1035_label(name: &str) -> Result<(), String> {
    rule(name.len() <= LABEL_MAX, too_long(LABEL_MAX))?;
    rule(is_lower_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase()), DNS1035_TEXT)
}

/// `*.` and a subdomain: hosts of an Ingress.
pub fn wildcard_subdomain(name: &str) -> Result<(), String> {
    rule(name.len() <= SUBDOMAIN_MAX, too_long(SUBDOMAIN_MAX))?;
    rule(name.strip_prefix("*.").is_some_and(is_lower_subdomain), WILDCARD_TEXT)
}

/// At least two labels: finalizers, signer names.
pub fn fully_qualified(name: &str) -> Result<(), String> {
    subdomain(name)?;
    rule(name.contains('.'), "should be a domain with at least two segments separated by dots")
}

/// A label key, annotation key or resource name: an optional DNS prefix, `/`, a name.
pub fn qualified(name: &str) -> Result<(), String> {
    let part = match name.split_once('/') {
        None => name,
        Some(("", _)) => return Err("prefix part must be non-empty".into()),
        Some((prefix, part)) => {
            subdomain(prefix).map_err(|why| format!("prefix part {why}"))?;
            part
        }
    };
    let whole = || format!("a qualified name {QUALIFIED_TEXT} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')");
    rule(!part.contains('/'), whole())?;
    rule(!part.is_empty(), "name part must be non-empty")?;
    rule(part.len() <= LABEL_MAX, format!("name part {}", too_long(LABEL_MAX)))?;
    rule(is_qualified_part(part), format!("name part {QUALIFIED_TEXT}"))
}

/// A label's value.
pub fn label_value(value: &str) -> Result<(), String> {
    rule(value.len() <= LABEL_MAX, too_long(LABEL_MAX))?;
    rule(value.is_empty() || is_qualified_part(value), LABEL_VALUE_TEXT)
}

/// An environment variable's name, relaxed as upstream since 1.34.
pub fn env_name(name: &str) -> Result<(), String> {
    rule(!name.is_empty() && name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'='), ENV_NAME_TEXT)
}

/// A C identifier.
pub fn c_identifier(name: &str) -> Result<(), String> {
    let head = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    rule(head && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), C_IDENTIFIER_TEXT)
}

/// A port's name (IANA service name): at most 15 of `a-z0-9-`, at least one letter.
pub fn port_name(name: &str) -> Result<(), String> {
    rule(name.len() <= PORT_NAME_MAX, too_long(PORT_NAME_MAX))?;
    let charset = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    rule(charset && !name.is_empty(), "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")?;
    rule(name.bytes().any(|b| b.is_ascii_lowercase()), "must contain at least one letter (a-z)")?;
    rule(!name.contains("--"), "must not contain consecutive hyphens")?;
    rule(!name.starts_with('-') && !name.ends_with('-'), "must not begin or end with a hyphen")
}

/// A port's number.
pub fn port_number(port: i32) -> Result<(), String> {
    rule((1..=65535).contains(&port), "must be between 1 and 65535, inclusive")
}

/// A key of a ConfigMap or Secret: a file name.
pub fn config_key(key: &str) -> Result<(), String> {
    rule(key.len() <= SUBDOMAIN_MAX, too_long(SUBDOMAIN_MAX))?;
    rule(!key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)), CONFIG_KEY_TEXT)?;
    rule(key != ".", "must not be '.'")?;
    rule(key != "..", "must not be '..'")?;
    rule(!key.starts_with(".."), "must not start with '..'")
}

/// Why a condition has its status, in one word.
pub fn condition_reason(reason: &str) -> Result<(), String> {
    let bytes = reason.as_bytes();
    let ends = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let well_formed = matches!((bytes.first(), bytes.last()), (Some(first), Some(last)) if first.is_ascii_alphabetic() && ends(last));
    rule(well_formed && bytes.iter().all(|b| ends(b) || b",:".contains(b)), REASON_TEXT)
}

/// Anything that can be one segment of a URL's path: names of RBAC objects.
pub fn path_segment(name: &str) -> Result<(), String> {
    rule(name != ".", "may not be '.'")?;
    rule(name != "..", "may not be '..'")?;
    rule(!name.contains('/'), "may not contain '/'")?;
    rule(!name.contains('%'), "may not contain '%'")
}

/// An IP address, without the leading zeros that some readers take for octal.
pub fn ip(text: &str) -> Result<(), String> {
    rule(text.parse::<IpAddr>().is_ok(), "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
}

/// An IP network in CIDR form.
pub fn cidr(text: &str) -> Result<(), String> {
    rule(text.parse::<ipnet::IpNet>().is_ok(), "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rule = fn(&str) -> Result<(), String>;

    /// `ok` must pass; each of `bad` must fail with a text that contains its second half.
    fn check(rule: Rule, ok: &[&str], bad: &[(&str, &str)]) {
        for value in ok {
            assert_eq!(rule(value), Ok(()), "{value}");
        }
        for (value, part) in bad {
            let text = rule(value).expect_err(value);
            assert!(text.contains(part), "{value}: {text}");
        }
    }

    #[test]
    fn syntax() {
        let long = "a".repeat(254);
        let label64 = "a".repeat(64);
        check(
            label,
            &["a", "a-b", "0a", &label64[..63]],
            &[("", "RFC 1123 label"), ("A", "RFC"), ("a.b", "RFC"), ("-a", "RFC"), (&label64, "no more than 63 bytes")],
        );
        check(subdomain, &["a", "a.b-c.d", "0"], &[("a..b", "RFC 1123 subdomain"), (".a", "RFC"), ("a_b", "RFC"), (&long, "253")]);
        check(search_domain, &["a", "_a.b_c", "x_"], &[("a..b", "'_' or '.'"), ("-a", "RFC")]);
        check(dns1035_label, &["a0"], &[("0a", "DNS-1035"), ("a-", "DNS-1035")]);
        check(wildcard_subdomain, &["*.a.b"], &[("*a", "wildcard"), ("a.b", "wildcard"), ("*.*.a", "wildcard")]);
        check(
            qualified,
            &["a", "A_b.c", "example.com/Name"],
            &[
                ("/a", "prefix part must be non-empty"),
                ("a/", "name part must be non-empty"),
                ("a/b/c", "a qualified name"),
                ("A/b", "prefix part a lowercase"),
                ("-a", "name part must consist"),
            ],
        );
        check(label_value, &["", "A.b_c-1"], &[("a ", "a valid label must be an empty string"), ("-", "valid label")]);
        check(env_name, &["A", "my.env", "a b"], &[("", "printable"), ("A=b", "printable"), ("ü", "printable")]);
        check(c_identifier, &["_a1"], &[("1a", "C identifier")]);
        check(
            port_name,
            &["http", "h2c-1"],
            &[("80", "one letter"), ("a--b", "consecutive"), ("-a", "begin or end"), ("HTTP", "alpha-numeric"), ("abcdefghijklmnop", "15")],
        );
        check(
            config_key,
            &["a.b", "_A"],
            &[("", "valid config key"), (".", "must not be '.'"), ("..a", "start with '..'"), ("a/b", "config key")],
        );
        check(path_segment, &["system:node"], &[(".", "may not be '.'"), ("a/b", "may not contain '/'"), ("a%", "'%'")]);
        check(ip, &["10.0.0.1", "::1"], &[("10.0.0.01", "valid IP"), ("a", "valid IP")]);
        check(cidr, &["10.0.0.0/8"], &[("10.0.0.0", "valid CIDR")]);
    }
}
