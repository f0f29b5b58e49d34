//! Rules of a CronJob's schedule and time zone: upstream's `validateScheduleFormat` and `validateTimeZone`
//! (`pkg/apis/batch/validation`), over the parser `robfig/cron/v3` and Go's `time.LoadLocation`, whose words these are.
//!
//! Zones are those that are built in, not the machine's: a schedule means the same wherever the server runs.

use std::str::FromStr;

use jiff::tz::TimeZoneDatabase;

use super::support::path::{Errors, Path};
use crate::api::FieldError;
use crate::api::duration::go_duration;

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const DESCRIPTORS: &[&str] = &["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
/// Most characters between two slashes of a zone's name.
const MAX_PART: usize = 14;

/// One field of a schedule: its least and greatest value, and names for them.
type Bounds = (u32, u32, &'static [&'static str]);

const FIELDS: [Bounds; 5] = [(0, 59, &[]), (0, 23, &[]), (1, 31, &[]), (1, 12, MONTHS), (0, 6, DAYS)];

/// What is wrong with a schedule. `had_zone`: the schedule before named its zone itself, and may go on.
pub fn schedule(errors: &mut Errors, path: &Path, schedule: &str, zone: Option<&str>, had_zone: bool) {
    if let Err(why) = parse(schedule) {
        errors.push(FieldError::invalid(path, schedule, why));
    }
    if schedule.contains("TZ") {
        let why = match (had_zone, zone) {
            (false, _) => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            (true, Some(_)) => "cannot use both timeZone field and TZ or CRON_TZ in schedule",
            (true, None) => return,
        };
        errors.push(FieldError::invalid(path, schedule, why));
    }
}

/// What is wrong with the name of a time zone.
pub fn time_zone(errors: &mut Errors, path: &Path, zone: &str) {
    let mut wrong = |why: String| errors.push(FieldError::invalid(path, zone, why));
    if zone.is_empty() {
        return wrong("timeZone must be nil or non-empty string".into());
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || ".-_+".contains(c);
    let bad = |part: &str| {
        part == "." || part == ".." || part.starts_with('-') || part.is_empty() || part.len() > MAX_PART || !part.chars().all(legal)
    };
    if zone.split('/').any(bad) {
        return wrong(format!("unknown time zone {zone}"));
    }
    if zone.eq_ignore_ascii_case("Local") {
        wrong("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones".into());
    }
    // Go knows this one, and means the machine's.
    if zone != "Local"
        && let Err(why) = load(zone)
    {
        wrong(why);
    }
}

/// Finds a zone; its name is spelt as the database has it.
fn load(zone: &str) -> Result<(), String> {
    let found = TimeZoneDatabase::bundled().get(zone).ok();
    let known = found.is_some_and(|found| found.iana_name() == Some(zone));
    if known { Ok(()) } else { Err(format!("unknown time zone {zone}")) }
}

/// Upstream's parser: five fields, or a descriptor; a zone may stand before either.
fn parse(schedule: &str) -> Result<(), String> {
    let mut schedule = schedule;
    if let Some(rest) = schedule.strip_prefix("TZ=").or_else(|| schedule.strip_prefix("CRON_TZ=")) {
        let (zone, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if !["", "UTC", "Local"].contains(&zone) {
            load(zone).map_err(|why| format!("provided bad location {zone}: {why}"))?;
        }
        schedule = rest.trim();
    }
    if schedule.starts_with('@') {
        return descriptor(schedule);
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    let parts = fields.iter().zip(FIELDS).flat_map(|(field, bounds)| field.split(',').map(move |part| (part, bounds)));
    parts.filter(|(part, _)| !part.is_empty()).try_for_each(|(part, bounds)| range(part, bounds))
}

fn descriptor(text: &str) -> Result<(), String> {
    if let Some(every) = text.strip_prefix("@every ") {
        return go_duration(every).map(drop).map_err(|why| format!("failed to parse duration {text}: {why}"));
    }
    if DESCRIPTORS.contains(&text) { Ok(()) } else { Err(format!("unrecognized descriptor: {text}")) }
}

/// `NUMBER`, `FROM-TO`, `*` or `?`, and perhaps `/STEP`.
fn range(text: &str, (low, high, names): Bounds) -> Result<(), String> {
    let steps: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = steps[0].split('-').collect();
    let named = |text: &str| match names.iter().zip(low..).find(|(name, _)| text.eq_ignore_ascii_case(name)) {
        Some((_, number)) => Ok(number),
        None => number(text),
    };
    let (first, mut last) = match ends.as_slice() {
        ["*" | "?", ..] => (low, high),
        [one] => named(one).map(|one| (one, one))?,
        [first, last] => (named(first)?, named(last)?),
        _ => return Err(format!("too many hyphens: {text}")),
    };
    let step = match steps.as_slice() {
        [_] => 1,
        [_, step] => number(step)?,
        _ => return Err(format!("too many slashes: {text}")),
    };
    if steps.len() == 2 && ends.len() == 1 {
        // Without an end it goes on to the greatest.
        last = high;
    }
    match () {
        () if first < low => Err(format!("beginning of range ({first}) below minimum ({low}): {text}")),
        () if last > high => Err(format!("end of range ({last}) above maximum ({high}): {text}")),
        () if first > last => Err(format!("beginning of range ({first}) beyond end of range ({last}): {text}")),
        () if step == 0 => Err(format!("step of range should be a positive number: {text}")),
        () => Ok(()),
    }
}

/// A number as Go reads it.
fn number(text: &str) -> Result<u32, String> {
    let plain = text.strip_prefix(['+', '-']).unwrap_or(text);
    let number = match plain.is_empty() || !plain.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Err("invalid syntax"),
        false => i64::from_str(text).map_err(|_| "value out of range"),
    };
    let number = number.map_err(|why| format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}"))?;
    match u32::try_from(number) {
        Ok(number) => Ok(number),
        Err(_) if number < 0 => Err(format!("negative number ({number}) not allowed: {text}")),
        // Out of every field's bounds, which the caller says.
        Err(_) => Ok(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        let good = [
            "* * * * *",
            "*/5 0-23/2 1,15 JAN-dec mon",
            "? ? ? ? ?",
            "5/15 * * * *",
            ", * * * *",
            "+5 * * * *",
            "@hourly",
            "@every 1h30m",
            "  1  2  3  4  5  ",
            "59 23 31 12 6",
        ];
        for text in good {
            assert_eq!(parse(text), Ok(()), "{text}");
        }
        for (text, want) in [
            ("", "expected exactly 5 fields, found 0: []"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            ("9-3 * * * *", "beginning of range (9) beyond end of range (3): 9-3"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("*/2/3 * * * *", "too many slashes: */2/3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("-1 * * * *", "failed to parse int from : strconv.Atoi: parsing \"\": invalid syntax"),
            ("*/-1 * * * *", "negative number (-1) not allowed: -1"),
            ("5000000000 * * * *", "end of range (4294967295) above maximum (59): 5000000000"),
            ("@often", "unrecognized descriptor: @often"),
            ("@every x", "failed to parse duration @every x: time: invalid duration \"x\""),
            ("TZ=Nowhere/City * * * * *", "provided bad location Nowhere/City: unknown time zone Nowhere/City"),
        ] {
            assert_eq!(parse(text), Err(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn zones_in_schedules() {
        const NEVER: &str = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        let check = |text: &str, zone: Option<&str>, had: bool| {
            let mut errors = Errors::new();
            schedule(&mut errors, &Path::new("s"), text, zone, had);
            errors.into_iter().map(|error| error.message).collect::<Vec<_>>()
        };
        let text = "CRON_TZ=Europe/Berlin 0 1 * * *";
        assert_eq!(check(text, None, true), Vec::<String>::new());
        assert_eq!(check(text, None, false), [format!("Invalid value: {text:?}: {NEVER}")]);
        let both = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        assert_eq!(check(text, Some("UTC"), true), [format!("Invalid value: {text:?}: {both}")]);
        assert_eq!(check("TZ=UTC", None, false).len(), 2);
    }

    #[test]
    fn zones() {
        const EXPLICIT: &str = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        for (zone, want) in [
            ("UTC", vec![]),
            ("Etc/UTC", vec![]),
            ("Europe/Berlin", vec![]),
            ("America/Argentina/Buenos_Aires", vec![]),
            ("Etc/GMT+8", vec![]),
            ("America/New_York", vec![]),
            ("EST5EDT", vec![]),
            ("", vec!["timeZone must be nil or non-empty string"]),
            ("Local", vec![EXPLICIT]),
            ("local", vec![EXPLICIT, "unknown time zone local"]),
            ("europe/berlin", vec!["unknown time zone europe/berlin"]),
            ("Europe/Atlantis", vec!["unknown time zone Europe/Atlantis"]),
            ("/UTC", vec!["unknown time zone /UTC"]),
            ("../UTC", vec!["unknown time zone ../UTC"]),
            ("Etc/-1", vec!["unknown time zone Etc/-1"]),
            ("Europe/Berlin ", vec!["unknown time zone Europe/Berlin "]),
        ] {
            let mut errors = Errors::new();
            time_zone(&mut errors, &Path::new("z"), zone);
            let want: Vec<String> = want.iter().map(|why| format!("Invalid value: {zone:?}: {why}")).collect();
            assert_eq!(errors.into_iter().map(|error| error.message).collect::<Vec<_>>(), want, "{zone}");
        }
    }
}
