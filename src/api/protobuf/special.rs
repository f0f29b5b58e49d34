//! Values that JSON and protobuf show differently: times, durations, numbers in text.
//!
//! Follows upstream's `meta/v1` (`time_proto.go`, `micro_time_proto.go`, `duration.go`) and Go's `time.Duration`.

use jiff::Timestamp;

/// The first second of the year 0: Go can't write what is before it as JSON.
const YEAR_ZERO: i64 = -62_167_219_200;
/// Go's zero `time.Time`, the year 1, which is no time at all.
const GO_ZERO: i64 = -62_135_596_800;

/// RFC 3339 as seconds and nanoseconds; `None` for what is no time.
pub(super) fn time(text: &str) -> Option<(i64, i32)> {
    let time: Timestamp = text.parse().ok()?;
    // Nanoseconds count forward, also before 1970.
    let (seconds, nanos) = (time.as_second(), time.subsec_nanosecond());
    Some(if nanos < 0 { (seconds - 1, nanos + 1_000_000_000) } else { (seconds, nanos) })
}

/// A time as JSON shows it: to the second, or to the microsecond. `Ok(None)` for Go's zero.
pub(super) fn show_time(seconds: i64, nanos: i32, micro: bool) -> Result<Option<String>, String> {
    if seconds == GO_ZERO && nanos == 0 {
        return Ok(None);
    }
    let nanos = if micro { nanos } else { 0 };
    let time = (seconds >= YEAR_ZERO).then(|| Timestamp::new(seconds, nanos).ok()).flatten();
    let time = time.ok_or_else(|| format!("{seconds} seconds and {nanos} nanoseconds are no time of the years 0 to 9999"))?;
    Ok(Some(if micro { format!("{time:.6}") } else { time.to_string() }))
}

const UNITS: &[(&str, i128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Nanoseconds of a Go duration such as `1h2m3.5s`.
pub(super) fn duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || number.len() > 38 || fraction.contains('.') {
            return None;
        }
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, after) = tail.split_at(unit_end);
        let size = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(size)?)?;
        if !fraction.is_empty() {
            let digits = &fraction[..fraction.len().min(15)];
            total += digits.parse::<i128>().ok()? * size / 10i128.pow(digits.len() as u32);
        }
        rest = after;
        if rest.is_empty() {
            return i64::try_from(if negative { -total } else { total }).ok();
        }
    }
}

/// A duration in Go's notation.
pub(super) fn show_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let size = nanos.unsigned_abs();
    let decimal = |value: u64, unit: u64, name: &str| {
        let fraction = format!("{:0width$}", value % unit, width = unit.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        match (unit, fraction) {
            (1, _) | (_, "") => format!("{}{name}", value / unit),
            _ => format!("{}.{fraction}{name}", value / unit),
        }
    };
    match size {
        0 => "0s".into(),
        1..1_000 => format!("{sign}{size}ns"),
        1_000..1_000_000 => format!("{sign}{}", decimal(size, 1_000, "\u{b5}s")),
        1_000_000..1_000_000_000 => format!("{sign}{}", decimal(size, 1_000_000, "ms")),
        _ => {
            let minutes = size / 60_000_000_000;
            let seconds = decimal(size % 60_000_000_000, 1_000_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}"),
                (0, m) => format!("{sign}{m}m{seconds}"),
                (h, m) => format!("{sign}{h}h{m}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_both_ways() {
        for (text, micro) in [
            ("2024-02-29T12:00:00Z", false),
            ("1969-12-31T23:59:59Z", false),
            ("2024-02-29T12:00:00.000000Z", true),
            ("2024-02-29T12:00:00.123456Z", true),
            ("1969-12-31T23:59:59.250000Z", true),
            ("0001-01-01T00:00:01Z", false),
        ] {
            let (seconds, nanos) = time(text).unwrap();
            assert_eq!(show_time(seconds, nanos, micro), Ok(Some(text.to_owned())));
        }
        assert_eq!(show_time(GO_ZERO, 0, false), Ok(None));
        for seconds in [i64::MIN, YEAR_ZERO - 1, 253_402_300_800, i64::MAX] {
            assert!(show_time(seconds, 0, false).is_err(), "{seconds}");
        }
        assert_eq!(time("yesterday"), None);
    }

    #[test]
    fn durations_go_both_ways() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5\u{b5}s"),
            (2_000_000, "2ms"),
            (1_500_000_000, "1.5s"),
            (-30_000_000_000, "-30s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!((show_duration(nanos).as_str(), duration(text)), (text, Some(nanos)));
        }
        for bad in ["", "-", "5", "s", "1x", "1.2.3s", "99999999999999999999h", "."] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
