//! Stable hashes for names and labels.
//!
//! The hash is FNV-1a (64 bit) of the canonical JSON, shown in the alphabet of upstream's `rand.SafeEncodeString`. The values differ
//! from upstream's (which hashes a Go dump), and nothing may depend on them but equality.

use serde::Serialize;

const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// FNV-1a, 64 bit.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The lowest `length` digits of a hash in an alphabet that spells no words.
pub fn safe_encode(hash: u64, length: usize) -> String {
    // FNV's low bits are its weakest: fold the high half in before taking digits.
    let mut rest = hash ^ (hash >> 32);
    let mut digit = || {
        let at = usize::try_from(rest % 27).expect("below 27");
        rest /= 27;
        char::from(ALPHABET[at])
    };
    (0..length).map(|_| digit()).collect()
}

/// The hash of a template, with the collision count where one is needed, as a label value.
pub fn of_template(template: &impl Serialize, collisions: Option<i32>) -> String {
    // `Value` keeps its maps sorted, so that equal templates have equal bytes.
    let value = serde_json::to_value(template).expect("API types have string keys only, so they always encode");
    let mut text = value.to_string();
    if let Some(count) = collisions.filter(|count| *count != 0) {
        text.push_str(&format!("/{count}"));
    }
    safe_encode(fnv1a(text.as_bytes()), 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_stable_and_differ() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        let a = of_template(&serde_json::json!({"a": 1, "b": 2}), None);
        assert_eq!(a, of_template(&serde_json::json!({"b": 2, "a": 1}), Some(0)));
        assert_ne!(a, of_template(&serde_json::json!({"a": 1, "b": 2}), Some(1)));
        assert_eq!(a.len(), 10);
    }
}
