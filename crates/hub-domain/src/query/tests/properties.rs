//! What holds for every query, condition, row and text.

use proptest::prelude::*;
use serde_json::Value;

use super::super::ast::{Condition, Expr, Query, Scope, Source};
use super::super::testing as generate;
use super::super::{Aggregation, Datum, Document, QUERY_TEXT_CHARS_MAX, QueryError, eval};

/// The value of the condition's expression; `None` when there is none.
fn value(condition: &Condition, row: &Value) -> Option<Option<bool>> {
    let Scope::Where(expr) = &condition.scope else { return None };
    Some(match eval::value(expr, &Document(row)) {
        Datum::Bool(flag) => Some(flag),
        _ => None,
    })
}

fn combine(make: impl Fn(Vec<Expr>) -> Expr, left: &Condition, right: &Condition) -> Option<Condition> {
    let (Scope::Where(left_expr), Scope::Where(right_expr)) = (&left.scope, &right.scope) else {
        return None;
    };
    let scope = Scope::Where(make(vec![left_expr.clone(), right_expr.clone()]));
    Some(Condition { source: left.source, scope })
}

fn negate(condition: &Condition) -> Option<Condition> {
    let Scope::Where(expr) = &condition.scope else { return None };
    Some(Condition { source: condition.source, scope: Scope::Where(Expr::Not(Box::new(expr.clone()))) })
}

/// An error points into its text.
fn check_position(text: &str, error: &QueryError) {
    let line = text.split('\n').nth(error.line - 1).expect("the line is in the text");
    assert!((1..=line.chars().count() + 1).contains(&error.column), "{error} in {text:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn print_and_parse_are_inverse(query in generate::query()) {
        let printed = query.to_string();
        prop_assume!(printed.chars().count() <= QUERY_TEXT_CHARS_MAX);
        prop_assert_eq!(Query::parse(&printed).map_err(|error| format!("{printed}: {error}")), Ok(query));
    }

    #[test]
    fn conditions_print_and_parse_too(
        condition in prop_oneof![generate::condition(Source::Devices), generate::condition(Source::DeviceModules)]
    ) {
        // A bare condition for all modules cannot be written; a query without WHERE says it.
        if condition.is_everything() && condition.source() == Source::DeviceModules {
            return Ok(());
        }
        let printed = condition.to_string();
        prop_assume!(printed.chars().count() <= QUERY_TEXT_CHARS_MAX);
        prop_assert_eq!(Condition::parse(&printed).map_err(|error| format!("{printed}: {error}")), Ok(condition));
    }

    #[test]
    fn any_query_answers_on_any_row(query in generate::query(), rows in proptest::collection::vec(generate::row(), 1..3)) {
        let mut aggregation = Aggregation::new(&query);
        for row in rows.iter().map(Document) {
            query.matches(&row);
            query.project(&row);
            let _ = query.sort_key(&row).cmp(&query.sort_key(&Document(&rows[0])));
            aggregation.add(&row).expect("few groups");
        }
        let groups = aggregation.finish();
        prop_assert!(groups.len() <= rows.len());
        for row in &rows {
            prop_assert!(query.sort_key(&Document(row)).cmp(&query.sort_key(&Document(row))).is_eq());
        }
    }

    #[test]
    fn logic_is_three_valued(
        left in generate::condition(Source::Devices),
        right in generate::condition(Source::Devices),
        row in generate::row()
    ) {
        let (Some(both), Some(either)) = (combine(Expr::All, &left, &right), combine(Expr::Any, &left, &right)) else {
            return Ok(());
        };
        let logic = |condition: Option<Condition>| condition.and_then(|condition| value(&condition, &row)).flatten();
        let not = |condition: &Condition| negate(condition).expect("has an expression");
        let (a, b) = (logic(Some(left.clone())), logic(Some(right.clone())));
        // Undefined lies between false and true: AND takes the lower, OR the higher.
        let rank = |value: Option<bool>| match value { Some(false) => 0, None => 1, Some(true) => 2 };
        prop_assert_eq!(rank(logic(Some(both.clone()))), rank(a).min(rank(b)));
        prop_assert_eq!(rank(logic(Some(either))), rank(a).max(rank(b)));
        prop_assert_eq!(rank(logic(Some(not(&left)))), 2 - rank(a));
        prop_assert_eq!(logic(Some(not(&both))), logic(combine(Expr::Any, &not(&left), &not(&right))));
        prop_assert_eq!(left.matches(&Document(&row)), a == Some(true));
    }

    #[test]
    fn planned_device_ids_leave_out_no_match(
        condition in generate::condition(Source::Devices),
        ids in proptest::collection::vec(proptest::sample::select(vec!["a", "b", "12", ""]), 0..3),
        row in generate::row()
    ) {
        let listed = format!("deviceId IN {ids:?} OR deviceId = 'b'").replace('"', "'");
        let listed = Condition::parse(&listed).expect("a valid condition");
        let joined = [combine(Expr::All, &listed, &condition), combine(Expr::Any, &condition, &listed)];
        for condition in joined.into_iter().flatten().chain([listed, condition]) {
            if let (true, Some(ids)) = (condition.matches(&Document(&row)), condition.device_ids()) {
                prop_assert!(row["deviceId"].as_str().is_some_and(|id| ids.contains(id)), "{} {}", condition, row);
            }
        }
    }

    #[test]
    fn any_text_parses_or_says_where_not(text in prop_oneof![any::<String>(), generate::token_soup()]) {
        for parsed in [Query::parse(&text).map(drop), Condition::parse(&text).map(drop)] {
            if let Err(error) = parsed {
                check_position(&text, &error);
            }
        }
        // What parses, prints to what parses to the same.
        if let Ok(query) = Query::parse(&text) {
            prop_assert_eq!(Query::parse(&query.to_string()), Ok(query));
        }
        if let Ok(condition) = Condition::parse(&text) {
            prop_assert_eq!(Condition::parse(&condition.to_string()), Ok(condition));
        }
    }
}
