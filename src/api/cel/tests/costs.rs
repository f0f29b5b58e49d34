//! Costs: the static ones follow the rules of cel-go, worked out by hand; the limits are seen to hold.

use serde_json::json;

use super::super::*;

#[test]
fn static_costs_follow_the_sizes_of_the_schema() {
    let list = |max: i64| json!({"type": "array", "maxItems": max, "items": {"type": "string", "maxLength": 10}});
    for (schema, rule, min, max) in [
        (json!({"type": "integer"}), "self > 3", 2, 2),
        (json!({"type": "object", "properties": {"a": {"type": "integer"}}}), "self.a > 3", 3, 3),
        (json!({"type": "object", "properties": {"a": {"type": "integer"}}}), "has(self.a)", 1, 1),
        (json!({"type": "string", "maxLength": 10}), "self.startsWith('abc')", 2, 2),
        // 4 bytes a character, a tenth a byte, and the variable.
        (json!({"type": "string", "maxLength": 10}), "self == 'a'.replace('a', self)", 4, 7),
        (list(10), "self.all(s, true)", 2, 32),
        (list(10), "self.size() > 3", 3, 3),
        (list(10), "['a', 'b'].all(s, s == 'a')", 17, 21),
    ] {
        let decl = DeclType::from_schema("selfType", &schema, false).unwrap();
        let program = Env::new().with("self", decl.ty.clone()).compile(rule).unwrap();
        let cost = program.estimate(&decl);
        assert_eq!((cost.min, cost.max), (min, max), "{rule}");
    }
}

#[test]
fn unbounded_loops_within_loops_are_over_the_limit() {
    let unbounded = json!({"type": "array", "items": {"type": "array", "items": {"type": "string"}}});
    let bounded =
        json!({"type": "array", "maxItems": 10, "items": {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 10}}});
    let cost = |schema: &serde_json::Value| {
        let decl = DeclType::from_schema("selfType", schema, false).unwrap();
        Env::new().with("self", decl.ty.clone()).compile("self.all(l, l.all(s, s.startsWith('a')))").unwrap().estimate(&decl).max
    };
    assert!(cost(&unbounded) > 10_000_000);
    assert!(cost(&bounded) < 10_000);
}

#[test]
fn budgets_end_runs() {
    let numbers = json!((0..1000).collect::<Vec<_>>());
    let program = Env::new().with("x", Type::list(Type::Int)).compile("x.all(a, x.all(b, x.all(c, a + b + c >= 0)))").unwrap();
    let activation = Activation::new().with("x", Value::from_json(&numbers, None).unwrap());
    assert_eq!(program.eval(&activation, &mut Budget::new(Budget::RUNTIME)).unwrap_err(), EvalError::CostExceeded);

    let small = Env::new().with("x", Type::list(Type::Int)).compile("x.all(a, a >= 0)").unwrap();
    let mut budget = Budget::new(10_000);
    let outcomes: Vec<bool> = (0..4).map(|_| small.eval(&activation, &mut budget).is_ok()).collect();
    assert!(outcomes[0] && !outcomes[3], "{outcomes:?}");
    assert_eq!(small.eval(&activation, &mut budget).unwrap_err(), EvalError::BudgetExceeded);

    let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    assert_eq!(small.eval(&activation, &mut Budget::new(Budget::RUNTIME).interrupted_by(flag)).unwrap_err(), EvalError::Interrupted);
}

#[test]
fn run_time_costs_are_cel_gos() {
    for (source, cost) in [
        ("1", 0),
        ("x", 1),
        ("x.a", 2),
        ("x.a.b", 3),
        ("1 + 1", 1),
        ("x.a.b + 1", 4),
        ("[1, 2]", 10),
        ("{'a': 1}", 30),
        ("'a' == 'a'", 1),
        ("'0123456789ab' == '0123456789ab'", 2),
        ("true && false", 0),
        ("x.l.all(i, true)", 2 + 3 * 2 + 1 + 3),
    ] {
        let object = json!({"a": {"b": 1}, "l": [1, 2, 3]});
        let program = Env::new().with("x", Type::Dyn).compile(source).unwrap();
        let activation = Activation::new().with("x", Value::from_json(&object, None).unwrap());
        let mut budget = Budget::new(1000);
        program.eval(&activation, &mut budget).unwrap();
        assert_eq!(1000 - budget.left(), cost, "{source}");
    }
}
