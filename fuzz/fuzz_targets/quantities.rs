//! Quantities: the canonical text is one, reads back equal, and order and sums agree with it. Two are read, a space between them.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use orch::api::cel::{Activation, Budget, Env, Program, Type, Value};
use orch::api::quantity::Quantity;
use orch_fuzz::seeds;

const SEEDS: &[&str] = &[
    "0",
    "1 2",
    "1.5Gi 3Mi",
    "-100m 1u",
    "1e3 1E3",
    "12E 8Ei",
    ".5Ki 0.0001Ki",
    "9223372036854775807 -9223372036854775808",
    "1e-12 5n",
    "+1.000000000001k 1P",
    "0.000000000000000000000000000000001e40 1Ti",
    "99999999999999999999999999999999999999 -1e38",
    "1E 1e0",
    "007 7.0",
];

/// The canonical text of one quantity.
fn canonical(text: &str) -> Option<Quantity> {
    let quantity = Quantity::parse(text).ok()?;
    let shown = quantity.to_string();
    let back = Quantity::parse(&shown).unwrap_or_else(|error| panic!("{text:?} is {shown:?}: {error}"));
    assert_eq!(back, quantity, "{text:?} is {shown:?}");
    assert_eq!(back.to_string(), shown, "{text:?}");
    assert_eq!(quantity.is_negative(), shown.starts_with('-'), "{text:?} is {shown:?}");
    assert_eq!((back.value(), back.milli()), (quantity.value(), quantity.milli()), "{text:?} is {shown:?}");
    assert!(quantity.approximate().is_finite(), "{text:?}");
    Some(quantity)
}

static COMPARED: LazyLock<Program> = LazyLock::new(|| {
    let env = Env::new().with("a", Type::String).with("b", Type::String);
    env.compile("quantity(a).compareTo(quantity(b)) == -quantity(b).compareTo(quantity(a))").expect("it is an expression")
});

/// The same through the library of expressions.
fn as_expression(one: &str, other: &str) {
    let activation = Activation::new().with("a", one.into()).with("b", other.into());
    match COMPARED.eval(&activation, &mut Budget::new(Budget::RUNTIME)) {
        Ok(Value::Bool(holds)) => assert!(holds, "{one:?} and {other:?}"),
        Ok(other) => panic!("{}", other.type_name()),
        Err(error) => assert!(Quantity::parse(one).is_err() || Quantity::parse(other).is_err(), "{one:?} and {other:?}: {error}"),
    }
}

fuzz_target!(init: seeds::plant(
    || SEEDS.iter().map(|seed| seed.as_bytes().to_vec()).collect(),
    || seeds::words(&["n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e", "e-", "E+", ".", "-", "+"]),
), |data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (one, other) = text.split_once(' ').unwrap_or((text, "1"));
    as_expression(one, other);
    let (Some(a), Some(b)) = (canonical(one), canonical(other)) else { return };
    assert_eq!(a.cmp(&b), b.cmp(&a).reverse(), "{text:?}");
    assert_eq!(a == b, a.cmp(&b).is_eq(), "{text:?}");
    for result in [a + b, a - b, -a] {
        canonical(&result.to_string()).unwrap_or_else(|| panic!("{text:?}: {result}"));
    }
    if a < b {
        assert!(a.value() <= b.value() && a.milli() <= b.milli(), "{text:?}");
    }
});
