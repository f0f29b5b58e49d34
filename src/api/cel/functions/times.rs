//! Parts of timestamps and durations (cel-go `common/stdlib`, `common/types/timestamp.go`).

use super::{Context, Res, Row, Value};
use crate::api::cel::error::EvalError;
use crate::api::cel::time;

type Part = fn(&jiff::civil::DateTime) -> i64;

macro_rules! part {
    ($name:literal, $id:literal, $part:expr) => {
        Row(
            $name,
            |c, args| part(c, args, $part, None),
            &[concat!($id, "|timestamp.() -> int"), concat!($id, "_with_tz|timestamp.(string) -> int")],
        )
    };
    ($name:literal, $id:literal, $part:expr, $scale:expr) => {
        Row(
            $name,
            |c, args| part(c, args, $part, Some($scale)),
            &[
                concat!($id, "|timestamp.() -> int"),
                concat!($id, "_with_tz|timestamp.(string) -> int"),
                concat!("duration_", $id, "|duration.() -> int"),
            ],
        )
    };
}

pub(super) const TABLE: &[Row] = &[
    part!("getFullYear", "timestamp_to_year", |at| i64::from(at.year())),
    part!("getMonth", "timestamp_to_month", |at| i64::from(at.month()) - 1),
    part!("getDayOfYear", "timestamp_to_day_of_year", |at| i64::from(at.day_of_year()) - 1),
    part!("getDayOfMonth", "timestamp_to_day_of_month", |at| i64::from(at.day()) - 1),
    part!("getDate", "timestamp_to_day_of_month_1_based", |at| i64::from(at.day())),
    part!("getDayOfWeek", "timestamp_to_day_of_week", |at| time::day_of_week(*at)),
    part!("getHours", "timestamp_to_hours", |at| i64::from(at.hour()), 3600 * time::SECOND),
    part!("getMinutes", "timestamp_to_minutes", |at| i64::from(at.minute()), 60 * time::SECOND),
    part!("getSeconds", "timestamp_to_seconds", |at| i64::from(at.second()), time::SECOND),
    part!("getMilliseconds", "timestamp_to_milliseconds", |at| i64::from(at.millisecond()), 1_000_000),
];

fn part<'a>(_: &Context<'_, 'a>, args: &[Value<'a>], part: Part, scale: Option<i64>) -> Res<Value<'a>> {
    match (&args[0], scale) {
        (Value::Timestamp(at), _) => {
            let zone = args.get(1).map(Value::str).transpose()?.unwrap_or("UTC");
            let local = time::in_zone(*at, zone).ok_or_else(|| EvalError::new(format!("unknown time zone {zone}")))?;
            Ok(Value::Int(part(&local)))
        }
        (Value::Duration(nanos), Some(scale)) => Ok(Value::Int(nanos / scale)),
        _ => Err(EvalError::no_such_overload()),
    }
}
