//! The string formats that custom resources' schemas are validated for; any other is ignored.
//!
//! Follows apiextensions-apiserver `pkg/apiserver/validation/formats.go` and kube-openapi `pkg/validation/strfmt`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;

use crate::api::names;
use crate::api::quantity::Quantity;

/// Whether a string is of the format.
type Test = fn(&str) -> bool;

/// Formats by name, without dashes.
const FORMATS: &[(&str, Test)] = &[
    ("bsonobjectid", |text| text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit())),
    ("uri", is_uri),
    ("email", is_email),
    ("hostname", is_hostname),
    ("ipv4", |text| text.parse::<Ipv4Addr>().is_ok()),
    ("ipv6", |text| text.parse::<Ipv6Addr>().is_ok()),
    ("cidr", is_cidr),
    ("mac", is_mac),
    ("uuid", |text| is_uuid(text, None)),
    ("uuid3", |text| is_uuid(text, Some('3'))),
    ("uuid4", |text| is_uuid(text, Some('4'))),
    ("uuid5", |text| is_uuid(text, Some('5'))),
    ("isbn", |text| is_isbn10(text) || is_isbn13(text)),
    ("isbn10", is_isbn10),
    ("isbn13", is_isbn13),
    ("creditcard", is_credit_card),
    ("ssn", |text| SSN.is_match(text)),
    ("hexcolor", is_hex_color),
    ("rgbcolor", |text| RGB.is_match(text)),
    ("byte", |text| STANDARD.decode(text.replace(['\r', '\n'], "")).is_ok()),
    ("password", |_| true),
    ("date", |text| text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()),
    ("duration", is_duration),
    ("datetime", is_date_time),
    ("quantity", |text| Quantity::parse(text).is_ok()),
    ("k8sshortname", |text| names::label(text).is_ok()),
    ("k8slongname", |text| names::subdomain(text).is_ok()),
];

/// A pattern of ours; that it compiles is tested below.
macro_rules! pattern {
    ($name:ident = $text:literal) => {
        static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($text).expect("a constant pattern, compiled by a test"));
    };
}
pattern!(SSN = r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$");
pattern!(
    RGB = r"^rgb\(\s*(0|[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])\s*,\s*(0|[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])\s*,\s*(0|[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])\s*\)$"
);
pattern!(
    CARD = r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$"
);
pattern!(DATE_TIME = r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$");
pattern!(DURATION = r"^(([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*[a-zµμ]+\s*)+$");

fn find(format: &str) -> Option<Test> {
    let plain = format.replace('-', "");
    FORMATS.iter().find(|(name, _)| *name == plain).map(|(_, test)| *test)
}

/// Whether values of this type are validated for this format.
pub(super) fn is_supported_format(type_: &str, format: &str) -> bool {
    match type_ {
        "" | "string" => find(format).is_some(),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

/// Whether `text` is of the string format; of one that is not supported everything is.
pub(super) fn matches(format: &str, text: &str) -> bool {
    find(format).is_none_or(|test| test(text))
}

/// What Go's `url.ParseRequestURI` takes: an absolute URI, or an absolute path.
fn is_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|byte| byte < 0x20 || byte == 0x7f || byte == b' ') {
        return false;
    }
    let hex = |bytes: &[u8]| bytes.len() == 2 && bytes.iter().all(u8::is_ascii_hexdigit);
    let escapes =
        text.bytes().enumerate().filter(|(_, byte)| *byte == b'%').all(|(at, _)| text.as_bytes().get(at + 1..at + 3).is_some_and(hex));
    if text.starts_with('/') {
        return escapes;
    }
    let Some((scheme, _)) = text.split_once(':') else { return false };
    let mut bytes = scheme.bytes();
    escapes
        && bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

fn is_email(text: &str) -> bool {
    // `Name <address>` is an address too.
    let address = match (text.strip_suffix('>'), text.find('<')) {
        (Some(inner), Some(at)) => &inner[at + 1..],
        (None, None) => text,
        _ => return false,
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let atom = |text: &str| {
        !text.is_empty()
            && text.split('.').all(|part| !part.is_empty() && part.chars().all(|c| !c.is_control() && !r#" ()<>[]:;@\,""#.contains(c)))
    };
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    (quoted || atom(local)) && atom(domain)
}

fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
    };
    text.len() <= 255 && !text.is_empty() && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.len() <= 3 && bits.bytes().all(|byte| byte.is_ascii_digit()) && bits.parse::<u32>().is_ok_and(|bits| bits <= most)
}

/// Six, eight or twenty bytes, separated by colons, dashes, or in groups of two by dots.
fn is_mac(text: &str) -> bool {
    let (separator, digits) = match text.chars().find(|c| !c.is_ascii_hexdigit()) {
        Some(separator @ (':' | '-')) => (separator, 2),
        Some('.') => ('.', 4),
        _ => return false,
    };
    let groups: Vec<&str> = text.split(separator).collect();
    let well_formed = groups.iter().all(|group| group.len() == digits && group.bytes().all(|byte| byte.is_ascii_hexdigit()));
    well_formed && [6, 8, 20].contains(&(groups.len() * digits / 2))
}

/// Dashes may each be left out; `version` is the first digit of the third group.
fn is_uuid(text: &str, version: Option<char>) -> bool {
    let mut digits = String::with_capacity(32);
    for c in text.chars() {
        match c {
            '-' if [8, 12, 16, 20].contains(&digits.len()) && !text.contains("--") => {}
            c if c.is_ascii_hexdigit() => digits.push(c.to_ascii_lowercase()),
            _ => return false,
        }
    }
    let at = |index: usize| digits.chars().nth(index);
    let variant = || at(16).is_some_and(|c| matches!(c, '8' | '9' | 'a' | 'b'));
    digits.len() == 32 && !text.ends_with('-') && version.is_none_or(|version| at(12) == Some(version) && (version == '3' || variant()))
}

fn is_isbn10(text: &str) -> bool {
    let digits: Vec<char> = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    let value = |(index, c): (usize, &char)| match c {
        'X' | 'x' if index == 9 => Some(10),
        c => c.to_digit(10),
    };
    let Some(values) = digits.iter().enumerate().map(value).collect::<Option<Vec<u32>>>() else { return false };
    values.len() == 10 && values.iter().zip((1..=10).rev()).map(|(value, weight)| value * weight).sum::<u32>() % 11 == 0
}

fn is_isbn13(text: &str) -> bool {
    let digits = text.chars().filter(|c| !matches!(c, '-' | ' ')).map(|c| c.to_digit(10)).collect::<Option<Vec<u32>>>();
    digits.is_some_and(|digits| {
        digits.len() == 13 && digits.iter().zip([1, 3].iter().cycle()).map(|(value, weight)| value * weight).sum::<u32>() % 10 == 0
    })
}

fn is_credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let luhn = digits.bytes().rev().enumerate().map(|(index, byte)| {
        let digit = u32::from(byte - b'0') * if index % 2 == 1 { 2 } else { 1 };
        if digit > 9 { digit - 9 } else { digit }
    });
    CARD.is_match(&digits) && luhn.sum::<u32>() % 10 == 0
}

fn is_hex_color(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or(text);
    matches!(digits.len(), 3 | 6) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Go's `time.ParseDuration`, or Scala's form with spelled units and spaces.
fn is_duration(text: &str) -> bool {
    let text = text.trim().to_lowercase();
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(&text);
    if unsigned == "0" {
        return true;
    }
    const UNITS: &[&str] = &[
        "ns",
        "nano",
        "nanos",
        "nanosecond",
        "nanoseconds",
        "us",
        "µs",
        "μs",
        "micro",
        "micros",
        "microsecond",
        "microseconds",
        "ms",
        "milli",
        "millis",
        "millisecond",
        "milliseconds",
        "s",
        "sec",
        "secs",
        "second",
        "seconds",
        "m",
        "min",
        "mins",
        "minute",
        "minutes",
        "h",
        "hr",
        "hrs",
        "hour",
        "hours",
        "d",
        "day",
        "days",
        "w",
        "wk",
        "wks",
        "week",
        "weeks",
    ];
    let words = unsigned.split(|c: char| c.is_ascii_digit() || c == '.' || c.is_whitespace()).filter(|word| !word.is_empty());
    DURATION.is_match(unsigned) && words.into_iter().all(|word| UNITS.contains(&word))
}

/// RFC 3339, also with `t` and `z` in lower case.
fn is_date_time(text: &str) -> bool {
    if text.len() < 4 {
        return false;
    }
    let lower = text.to_lowercase();
    let Some((date, time)) = lower.split_once('t') else { return false };
    let Some(parts) = DATE_TIME.captures(time) else { return false };
    let below = |index: usize, most: u32| parts[index].parse::<u32>().is_ok_and(|value| value <= most);
    date.len() == 10 && date.parse::<jiff::civil::Date>().is_ok() && below(1, 23) && below(2, 59) && below(3, 59)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        for (format, good, bad) in [
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f"),
            ("uri", "https://example.com/a?b=c", "example.com"),
            ("email", "a.b@example.com", "a@"),
            ("hostname", "a.example.com", "-a.example"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "fd00::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "00:00:5e:00:53:01", "00:00"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
            ("uuid4", "123e4567-e89b-42d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
            ("isbn", "978-0321751041", "978-0321751042"),
            ("isbn10", "0321751043", "0321751044"),
            ("creditcard", "4111-1111-1111-1111", "4111-1111-1111-1112"),
            ("ssn", "111-11-1111", "1"),
            ("hexcolor", "#FFFFFF", "#FFFF"),
            ("rgbcolor", "rgb(255,255,255)", "rgb(300,0,0)"),
            ("byte", "aGVsbG8=", "*"),
            ("date", "2006-01-02", "2006-13-02"),
            ("duration", "22 ns", "22 foo"),
            ("duration", "1h30m", "1"),
            ("date-time", "2014-12-15T19:30:20.000Z", "2014-12-15"),
            ("datetime", "2014-12-15T19:30:20+01:00", "2014-12-15T25:30:20Z"),
            ("quantity", "10Gi", "10x"),
            ("k8s-short-name", "a-b", "A.b"),
            ("k8s-long-name", "a.b", "a..b"),
        ] {
            assert!(matches(format, good), "{format} {good}");
            assert!(!matches(format, bad), "{format} {bad}");
        }
        assert!(
            is_supported_format("string", "date-time")
                && is_supported_format("integer", "int32")
                && is_supported_format("number", "double")
        );
        assert!(!is_supported_format("string", "int32") && !is_supported_format("object", "date") && !is_supported_format("string", "own"));
    }
}
