//! Timestamps and durations: their texts, their parts, and their ranges (cel-go `common/types/timestamp.go`, Go's `time` package).

use std::fmt;

use jiff::civil::{DateTime, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Nanoseconds in a second.
pub const SECOND: i64 = 1_000_000_000;

/// 0001-01-01T00:00:00Z
const FIRST: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z
const LAST: i64 = 253_402_300_799;

/// A timestamp: all of the years 1 to 9999, whose last day `jiff::Timestamp` lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(i128);

impl Instant {
    /// From nanoseconds since 1970, if CEL has such a timestamp.
    pub fn from_nanos(nanos: i128) -> Option<Instant> {
        let seconds = nanos.div_euclid(i128::from(SECOND));
        (i128::from(FIRST)..=i128::from(LAST)).contains(&seconds).then_some(Instant(nanos))
    }

    /// Nanoseconds since 1970.
    pub fn nanos(self) -> i128 {
        self.0
    }

    /// The date and time of day `offset` seconds east of Greenwich, if it has a year of four digits.
    fn civil(self, offset: i32) -> Option<DateTime> {
        let nanos = self.0 + i128::from(offset) * i128::from(SECOND);
        let seconds = i64::try_from(nanos.div_euclid(i128::from(SECOND))).ok()?;
        let since = SignedDuration::new(seconds, nanos.rem_euclid(i128::from(SECOND)) as i32);
        epoch().checked_add(since).ok()
    }
}

impl fmt::Display for Instant {
    /// As Go's `RFC3339Nano`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.civil(0) {
            Some(civil) => write!(f, "{civil}Z"),
            None => f.write_str("out of range"),
        }
    }
}

fn epoch() -> DateTime {
    date(1970, 1, 1).at(0, 0, 0, 0)
}

/// RFC 3339, as Go reads it: a zone must be given.
pub fn parse_timestamp(text: &str) -> Option<Instant> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() >= 20 && bytes[4] == b'-' && bytes[7] == b'-' && bytes[10] == b'T' && bytes[13] == b':' && bytes[16] == b':';
    let digits = |range: std::ops::Range<usize>| text.get(range).is_some_and(|part| part.bytes().all(|b| b.is_ascii_digit()));
    if !shaped || ![0..4, 5..7, 8..10, 11..13, 14..16, 17..19].into_iter().all(digits) || &text[17..19] == "60" {
        return None;
    }
    let (civil, offset) = match text.strip_suffix('Z') {
        Some(civil) => (civil, 0),
        None => {
            let (civil, zone) = text.split_at_checked(text.len() - 6)?;
            (civil, offset_of(zone).filter(|_| zone.starts_with(['+', '-']))?)
        }
    };
    let sound = civil.len() == 19 || (civil.as_bytes()[19] == b'.' && civil.len() > 20 && civil[20..].bytes().all(|b| b.is_ascii_digit()));
    // Finer than nanoseconds counts for nothing.
    let civil: DateTime = civil.get(..civil.len().min(29)).filter(|_| sound)?.parse().ok()?;
    Instant::from_nanos(civil.duration_since(epoch()).as_nanos() - i128::from(offset) * i128::from(SECOND))
}

/// What a schema's `date` or `date-time` may hold.
pub fn parse_declared(text: &str) -> Option<Instant> {
    if text.len() == 10 { parse_timestamp(&format!("{text}T00:00:00Z")) } else { parse_timestamp(text) }
}

/// `[+-]hh:mm` in seconds.
fn offset_of(text: &str) -> Option<i32> {
    let (hours, minutes) = text.split_once(':')?;
    let negative = hours.starts_with('-');
    let hours: i32 = hours.trim_start_matches(['-', '+']).parse().ok()?;
    let minutes: i32 = minutes.parse().ok()?;
    let seconds = (hours * 60 + minutes) * 60;
    let sound = (0..24).contains(&hours) && (0..60).contains(&minutes);
    sound.then_some(if negative { -seconds } else { seconds })
}

const UNITS: &[(&str, i64)] =
    &[("ns", 1), ("us", 1_000), ("µs", 1_000), ("μs", 1_000), ("ms", 1_000_000), ("s", SECOND), ("m", 60 * SECOND), ("h", 3600 * SECOND)];

/// As Go's `time.ParseDuration`: `1h30m`, `-1.5s`, `0`.
pub fn parse_duration(text: &str) -> Option<i64> {
    parse_units(text, UNITS)
}

/// As `strfmt.ParseDuration`, which schemas of `format: duration` use: also days and weeks, and words with spaces.
pub fn parse_lenient_duration(text: &str) -> Option<i64> {
    if let Some(nanos) = parse_duration(text) {
        return Some(nanos);
    }
    const WORDS: &[(&str, i64)] = &[
        ("w", 7 * 86_400 * SECOND),
        ("wk", 7 * 86_400 * SECOND),
        ("week", 7 * 86_400 * SECOND),
        ("weeks", 7 * 86_400 * SECOND),
        ("d", 86_400 * SECOND),
        ("day", 86_400 * SECOND),
        ("days", 86_400 * SECOND),
        ("h", 3600 * SECOND),
        ("hr", 3600 * SECOND),
        ("hour", 3600 * SECOND),
        ("hours", 3600 * SECOND),
        ("m", 60 * SECOND),
        ("min", 60 * SECOND),
        ("minute", 60 * SECOND),
        ("minutes", 60 * SECOND),
        ("s", SECOND),
        ("sec", SECOND),
        ("second", SECOND),
        ("seconds", SECOND),
        ("ms", 1_000_000),
        ("milli", 1_000_000),
        ("us", 1_000),
        ("micro", 1_000),
        ("ns", 1),
        ("nano", 1),
    ];
    let compact: String = text.split_whitespace().collect();
    if compact.starts_with(['-', '+']) { None } else { parse_units(&compact, WORDS) }
}

fn parse_units(text: &str, units: &[(&str, i64)]) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, after) = rest.split_at(number);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 19 {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total += whole * i128::from(*scale);
        let kept = &fraction[..fraction.len().min(18)];
        if !kept.is_empty() {
            total += kept.parse::<i128>().ok()? * i128::from(*scale) / 10i128.pow(kept.len() as u32);
        }
        if total > i128::from(i64::MAX) + 1 {
            return None;
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// As cel-go's `string(duration)`: seconds with `s`.
pub fn format_duration(nanos: i64) -> String {
    let (sign, magnitude) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let (seconds, fraction) = (magnitude / SECOND as u64, magnitude % SECOND as u64);
    if fraction == 0 {
        return format!("{sign}{seconds}s");
    }
    let fraction = format!("{fraction:09}");
    format!("{sign}{seconds}.{}s", fraction.trim_end_matches('0'))
}

/// The local time of `at` in a zone: a name of the IANA database (UTC always works), or an offset such as `-02:00`.
pub fn in_zone(at: Instant, zone: &str) -> Option<DateTime> {
    if zone.is_empty() || zone == "UTC" || zone == "Z" {
        return at.civil(0);
    }
    if zone.contains(':') {
        return at.civil(offset_of(zone)?);
    }
    let known = TimeZone::get(zone).ok()?;
    // The zone's rules for the nearest moment that the database can be asked for.
    let nearest = at.0.clamp(Timestamp::MIN.as_nanosecond(), Timestamp::MAX.as_nanosecond());
    at.civil(known.to_offset(Timestamp::from_nanosecond(nearest).ok()?).seconds())
}

/// Days since Sunday.
pub fn day_of_week(at: DateTime) -> i64 {
    i64::from(at.date().weekday().to_sunday_zero_offset())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, nanos, shown) in [
            ("0", 0, "0s"),
            ("1h", 3600 * SECOND, "3600s"),
            ("1h30m", 5400 * SECOND, "5400s"),
            ("-1.5s", -SECOND * 3 / 2, "-1.5s"),
            ("100ms", SECOND / 10, "0.1s"),
            (".5m", 30 * SECOND, "30s"),
            ("1ns", 1, "0.000000001s"),
            ("+2us", 2000, "0.000002s"),
        ] {
            assert_eq!(parse_duration(text), Some(nanos), "{text}");
            assert_eq!(format_duration(nanos), shown);
        }
        for text in ["", "1", "s", "1x", "1d", "-", ".s", "1..5s", "9223372037s", "999999999999999999999h", "1 s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(parse_lenient_duration("2 days"), Some(2 * 86_400 * SECOND));
    }

    #[test]
    fn timestamps() {
        for text in ["2020-01-02T03:04:05Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z"] {
            assert_eq!(parse_timestamp(text).map(|at| at.to_string()).as_deref(), Some(text));
        }
        for text in [
            "",
            "2020-01-02",
            "2020-01-02T03:04:05",
            "2020-13-02T03:04:05Z",
            "0000-12-31T23:59:59Z",
            "2020-01-02 03:04:05Z",
            "2020-01-02T03:04:05.Z",
            "2020-01-02T03:04:05é+0",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
        assert_eq!(parse_timestamp("2020-01-02T05:04:05+02:00"), parse_timestamp("2020-01-02T03:04:05Z"));
    }
}
