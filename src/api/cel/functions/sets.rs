//! Lists as sets (cel-go `ext/sets.go`).

use super::{Res, Row, Value};
use crate::api::cel::value::List;

pub(super) const TABLE: &[Row] = &[
    Row(
        "sets.contains",
        |_, args| contains(args[0].as_list()?, args[1].as_list()?).map(Value::Bool),
        &["list_sets_contains_list|(list(T), list(T)) -> bool"],
    ),
    Row(
        "sets.equivalent",
        |_, args| {
            let (a, b) = (args[0].as_list()?, args[1].as_list()?);
            Ok(Value::Bool(contains(a, b)? && contains(b, a)?))
        },
        &["list_sets_equivalent_list|(list(T), list(T)) -> bool"],
    ),
    Row(
        "sets.intersects",
        |_, args| {
            let (a, b) = (args[0].as_list()?, args[1].as_list()?);
            for item in b.iter() {
                if a.contains(&item?)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        },
        &["list_sets_intersects_list|(list(T), list(T)) -> bool"],
    ),
];

fn contains<'a>(all: &List<'a>, some: &List<'a>) -> Res<bool> {
    for item in some.iter() {
        if !all.contains(&item?)? {
            return Ok(false);
        }
    }
    Ok(true)
}
