//! Explanations: what they say of examples, and that they never disagree with evaluation.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::testing as generate;
use super::super::{
    Condition, Document, EXPLAINED_VALUE_BYTES_MAX, Explanation, QUERY_TEXT_CHARS_MAX, Source,
};
use super::pump;

fn explain(condition: &str) -> Explanation {
    Condition::parse(condition).expect("a valid condition").explain(&Document(&pump()))
}

/// The tree as JSON that is short to write: text, result, what was read, terms.
fn outline(explanation: &Explanation) -> Value {
    let reads = explanation.reads.iter().map(|read| json!([read.path, read.value]));
    let terms = explanation.terms.iter().map(outline);
    json!([explanation.text, explanation.result, reads.collect::<Value>(), terms.collect::<Value>()])
}

#[test]
fn each_term_has_its_result_and_what_it_read() {
    let said = explain("tags.site='b' and (not properties.reported.temp > 20 or tags.nothing = 1)");
    let site = json!(["tags.site = 'b'", false, [["tags.site", "a"]], []]);
    let warm = json!(["properties.reported.temp > 20", true, [["properties.reported.temp", 21.5]], []]);
    let not = json!(["NOT properties.reported.temp > 20", false, [], [warm]]);
    let nothing = json!(["tags.nothing = 1", null, [["tags.nothing", null]], []]);
    let any = json!(["NOT properties.reported.temp > 20 OR tags.nothing = 1", null, [], [not, nothing]]);
    let text = "tags.site = 'b' AND (NOT properties.reported.temp > 20 OR tags.nothing = 1)";
    assert_eq!(outline(&said), json!([text, false, [], [site, any]]));

    let said = explain("properties.reported.batt - properties.reported.temp > properties.reported.batt / 2");
    let read = json!([["properties.reported.batt", 80], ["properties.reported.temp", 21.5]]);
    assert_eq!((&outline(&said)[2], said.result), (&read, Some(true)));
    assert_eq!(outline(&explain("*")), json!(["*", true, [], []]));
    assert_eq!(outline(&explain("")), json!(["", false, [], []]));
    assert_eq!(explain("FROM devices.modules WHERE moduleId = 'm'").text, "moduleId = 'm'");
}

#[test]
fn null_is_not_nothing_and_long_values_are_told_by_their_size() {
    assert_eq!(explain("statusReason = null").reads[0].value, Some(Value::Null));
    assert_eq!(explain("tags.none = null").reads[0].value, None);
    let condition = Condition::parse("IS_STRING(tags.text)").expect("a valid condition");
    for (chars, is_shown) in [(EXPLAINED_VALUE_BYTES_MAX - 2, true), (EXPLAINED_VALUE_BYTES_MAX - 1, false)] {
        let text = "x".repeat(chars);
        let said = condition.explain(&Document(&json!({ "tags": { "text": text } })));
        let expected = if is_shown { text } else { "(1025 bytes)".into() };
        assert_eq!((said.result, said.reads[0].value.clone()), (Some(true), Some(expected.into())));
    }
}

#[test]
fn the_nearer_a_condition_is_the_fewer_terms_miss() {
    for (condition, misses) in [
        ("*", 0),
        ("tags.site = 'a'", 0),
        ("tags.site = 'b'", 1),
        ("tags.site = 'a' AND tags.nothing = 1 AND status = 'disabled'", 2),
        ("(tags.nothing = 1 AND status = 'disabled') OR tags.site = 'b'", 1),
        ("NOT (tags.site = 'a' OR status = 'enabled')", 2),
        ("NOT (tags.site = 'a' AND status = 'enabled')", 1),
        ("", usize::MAX),
    ] {
        let parsed = Condition::parse(condition).expect("a valid condition");
        assert_eq!(parsed.terms_missed(&Document(&pump())), misses, "{condition}");
    }
}

/// Undefined lies between false and true.
fn rank(result: Option<bool>) -> u8 {
    match result {
        Some(false) => 0,
        None => 1,
        Some(true) => 2,
    }
}

/// A term stands for itself, and its result follows from those of its own terms.
fn check(term: &Explanation, source: Source, row: &Value) -> Result<(), TestCaseError> {
    let parsed = Condition::parse(&format!("FROM {source} WHERE {}", term.text));
    let parsed = parsed.map_err(|error| TestCaseError::fail(format!("{}: {error}", term.text)))?;
    prop_assert_eq!(parsed.matches(&Document(row)), term.result == Some(true), "{}", &term.text);
    let ranks: Vec<u8> = term.terms.iter().map(|term| rank(term.result)).collect();
    if let (Some(least), Some(most)) = (ranks.iter().min(), ranks.iter().max()) {
        let own = rank(term.result);
        prop_assert!([*least, *most, 2 - *most].contains(&own), "{:?}", term);
        prop_assert!(term.reads.is_empty());
    }
    term.terms.iter().try_for_each(|term| check(term, source, row))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn explanations_agree_with_evaluation(
        (source, condition) in generate::source()
            .prop_flat_map(|source| (Just(source), generate::condition(source))),
        row in generate::row()
    ) {
        let said = condition.explain(&Document(&row));
        prop_assert_eq!(said.result == Some(true), condition.matches(&Document(&row)));
        prop_assert_eq!(condition.terms_missed(&Document(&row)) == 0, condition.matches(&Document(&row)));
        prop_assume!(!condition.is_everything() && said.text.chars().count() + 40 <= QUERY_TEXT_CHARS_MAX);
        check(&said, source, &row)?;
    }
}
