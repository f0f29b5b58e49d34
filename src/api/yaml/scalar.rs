//! What a scalar's text means: go-yaml v2's `resolve.go`, YAML 1.1 without its dates and sexagesimals.

use serde_json::{Number, Value};

use super::Error;

/// The value of a scalar. A plain one without a tag says its type by its text, a tagged one by its tag, others are text.
pub(super) fn resolve(text: &str, tag: Option<&str>, plain: bool) -> Result<Value, Error> {
    let tag = tag.map(|tag| tag.strip_prefix("tag:yaml.org,2002:").unwrap_or(tag));
    let (found, value) = match (tag, plain) {
        (None, true) | (Some("bool" | "int" | "float" | "null"), _) => implicit(text)?,
        (Some("binary"), _) => return binary(text),
        (None, false) | (Some(_), _) => return Ok(text.into()),
    };
    match tag {
        Some(tag) if tag != found && (tag, found) != ("float", "int") => {
            Err(Error::yaml(format!("cannot decode !!{found} `{text}` as a !!{tag}")))
        }
        _ => Ok(value),
    }
}

/// The type and the value of a plain text.
fn implicit(text: &str) -> Result<(&'static str, Value), Error> {
    let word = match text {
        "" | "~" | "null" | "Null" | "NULL" => Some(("null", Value::Null)),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(("bool", true.into())),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(("bool", false.into())),
        ".nan" | ".NaN" | ".NAN" => return Err(Error::json("json: unsupported value: NaN")),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Err(Error::json("json: unsupported value: +Inf")),
        "-.inf" | "-.Inf" | "-.INF" => return Err(Error::json("json: unsupported value: -Inf")),
        _ => None,
    };
    if let Some(word) = word {
        return Ok(word);
    }
    let number = match text.as_bytes()[0] {
        b'.' => float(text).map(|number| ("float", number)),
        b'+' | b'-' | b'0'..=b'9' => {
            let digits = text.replace('_', "");
            // Integers of any base first; what is one to no base may be a float still, such as 08.
            integer(&digits).map(|number| ("int", number)).or_else(|| float(&digits).map(|number| ("float", number)))
        }
        _ => None,
    };
    Ok(number.map_or_else(|| ("str", text.into()), |(found, number)| (found, Value::Number(number))))
}

/// As Go's `ParseInt` and `ParseUint` with base 0: a sign, then `0x`, `0o`, `0b` or `0` before digits of that base.
fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let prefixed = |prefix: [&str; 2]| prefix.iter().find_map(|prefix| digits.strip_prefix(prefix));
    let (base, digits) = if let Some(rest) = prefixed(["0x", "0X"]) {
        (16, rest)
    } else if let Some(rest) = prefixed(["0b", "0B"]) {
        (2, rest)
    } else if let Some(rest) = prefixed(["0o", "0O"]) {
        (8, rest)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(base)) {
        return None;
    }
    match u64::from_str_radix(digits, base) {
        Ok(number) if !negative => Some(number.into()),
        Ok(number) => 0i64.checked_sub_unsigned(number).map(Number::from).or_else(|| Number::from_f64(-(number as f64))),
        // Larger than 64 bits: as near as JSON's readers come.
        Err(_) => {
            let number =
                digits.chars().filter_map(|digit| digit.to_digit(base)).fold(0.0, |sum, digit| sum * f64::from(base) + f64::from(digit));
            Number::from_f64(if negative { -number } else { number })
        }
    }
}

/// Of the form `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`; JSON writes whole ones as integers.
fn float(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(mantissa, exponent)| (mantissa, Some(exponent)));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(whole, fraction)| (whole, Some(fraction)));
    let well_formed = digits(whole) && fraction.is_none_or(digits) && (!whole.is_empty() || fraction.is_some_and(|part| !part.is_empty()));
    let exponent_fits = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    if !well_formed || !exponent_fits {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    if number.fract() == 0.0 && number.abs() < 9e18 { Some(Number::from(number as i64)) } else { Number::from_f64(number) }
}

/// `!!binary`: the bytes that the text encodes, as the text that JSON would make of them.
fn binary(text: &str) -> Result<Value, Error> {
    use base64::Engine;
    let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text);
    let bytes = bytes.map_err(|_| Error::yaml("!!binary value contains invalid base64 data"))?;
    Ok(String::from_utf8_lossy(&bytes).into())
}
