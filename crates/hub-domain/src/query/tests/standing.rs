//! Many conditions at once: a change finds each that it concerns, and few besides.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::super::path::{Path, Root};
use super::super::testing as generate;
use super::super::{Condition, Document, Look, Row, Shown, Source, Standing};

fn condition(text: &str) -> Condition {
    Condition::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn path(text: &str) -> Path {
    let names = text.split('.').map(str::to_owned).collect();
    Path::resolve(Source::Devices, names).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn keys(before: &Value, after: &Value, pointer: &str) -> BTreeSet<String> {
    let objects = [before, after].map(|row| row.pointer(pointer).and_then(Value::as_object));
    objects.into_iter().flatten().flat_map(Map::keys).cloned().collect()
}

/// Tells the look of everything.
fn everything<'l>(look: Look<'l>, before: &Value, after: &Value) -> Vec<usize> {
    let (tags, desired) = (keys(before, after, "/tags"), keys(before, after, "/properties/desired"));
    let reported = keys(before, after, "/properties/reported");
    let look = look.system().keys(Root::Tags, tags.iter()).keys(Root::Desired, desired.iter());
    look.keys(Root::Reported, reported.iter()).finish()
}

/// The same, where the look finds out which keys differ.
fn sections<'l>(look: Look<'l>, before: &Value, after: &Value) -> Vec<usize> {
    let none = Map::new();
    let object = |row: &'_ Value, pointer: &str| row.pointer(pointer).and_then(Value::as_object).cloned();
    let of = |row, pointer| object(row, pointer).unwrap_or_else(|| none.clone());
    let mut look = look.system();
    for (root, pointer) in [
        (Root::Tags, "/tags"),
        (Root::Desired, "/properties/desired"),
        (Root::Reported, "/properties/reported"),
    ] {
        look = look.section(root, &of(before, pointer), &of(after, pointer));
    }
    look.finish()
}

fn usual() -> impl Strategy<Value = Condition> {
    let path = || {
        select(vec![
            "tags.a",
            "tags.b",
            "tags.a.b",
            "properties.reported.a",
            "properties.desired.a",
            "status",
        ])
    };
    let constant = || select(vec!["'a'", "'b'", "0", "1", "2", "-1", "1.5", "null", "true"]);
    let operator = || select(vec!["=", "=", "!=", "<", "<=", ">", ">="]);
    let term = prop_oneof![
        6 => (path(), operator(), constant()).prop_map(|(path, is, constant)| format!("{path} {is} {constant}")),
        2 => (constant(), operator(), path()).prop_map(|(constant, is, path)| format!("{constant} {is} {path}")),
        2 => (path(), select(vec!["IN", "NIN"]), vec(constant(), 0..4))
            .prop_map(|(path, word, list)| format!("{path} {word} [{}]", list.join(", "))),
        1 => path().prop_map(|path| format!("IS_DEFINED({path})")),
        1 => (path(), path()).prop_map(|(left, right)| format!("{left} > {right}")),
    ];
    let whole = term.prop_recursive(3, 8, 3, |operand| {
        prop_oneof![
            3 => vec(operand.clone(), 2..4).prop_map(|operands| format!("({})", operands.join(" AND "))),
            2 => vec(operand.clone(), 2..4).prop_map(|operands| format!("({})", operands.join(" OR "))),
            1 => operand.prop_map(|operand| format!("NOT ({operand})")),
        ]
    });
    whole.prop_map(|text| condition(&text))
}

fn any_condition() -> impl Strategy<Value = Condition> {
    prop_oneof![3 => usual(), 1 => generate::condition(Source::Devices)]
}

/// Rows whose values meet the constants above.
fn usual_row() -> impl Strategy<Value = Value> {
    let value = || {
        prop_oneof![
            3 => select(vec![json!("a"), json!("b"), json!(0), json!(1), json!(2), json!(-1.5), json!(null), json!(true)]),
            1 => select(vec![json!({"b": 1}), json!({"b": "a"}), json!([1]), json!({})]),
        ]
    };
    let section = || proptest::collection::btree_map(select(vec!["a", "b"]), value(), 0..3);
    (section(), section(), section(), select(vec!["a", "enabled"])).prop_map(
        |(tags, desired, reported, status)| {
            json!({"deviceId": "d", "status": status, "version": 1, "tags": tags,
            "properties": {"desired": desired, "reported": reported}})
        },
    )
}

fn any_row() -> impl Strategy<Value = Value> {
    prop_oneof![3 => usual_row(), 1 => generate::row()]
}

fn value(row: &Value, path: &Path) -> Option<Value> {
    Document(row).get(path).into_value()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_condition_that_a_change_concerns_is_left_out(
        conditions in vec((any_condition(), 0u8..4), 1..8),
        rows in vec(any_row(), 2..4),
        gone in any::<proptest::sample::Index>(),
    ) {
        let site = path("tags.b");
        let shown = |flavour: u8| match flavour {
            0 => Shown::Everything,
            1 => Shown::Paths(vec![&site]),
            _ => Shown::Paths(Vec::new()),
        };
        let mut standing = Standing::default();
        for (number, (condition, flavour)) in conditions.iter().enumerate() {
            standing.insert(number, condition, &shown(*flavour));
        }
        let gone = gone.index(conditions.len());
        standing.remove(gone, &conditions[gone].0, &shown(conditions[gone].1));
        for pair in rows.windows(2) {
            let (before, after) = (&pair[0], &pair[1]);
            let (old, new) = (Document(before), Document(after));
            let found = everything(standing.look(Some(&old), &new), before, after);
            prop_assert_eq!(&sections(standing.look(Some(&old), &new), before, after), &found);
            let begun = everything(standing.look(None, &new), before, after);
            let all = standing.all_for(&new);
            for (number, (condition, flavour)) in conditions.iter().enumerate() {
                if number == gone {
                    prop_assert!([&found, &begun, &all].iter().all(|found| !found.contains(&number)));
                    continue;
                }
                let (was, is) = (condition.matches(&old), condition.matches(&new));
                let differs = match shown(*flavour) {
                    Shown::Everything => before != after,
                    Shown::Paths(paths) => paths.iter().any(|path| value(before, path) != value(after, path)),
                };
                let concerned = was != is || (is && differs);
                prop_assert!(!concerned || found.contains(&number), "{} from {} to {}", condition, before, after);
                prop_assert!(was || !is || begun.contains(&number), "{} from {} to {}", condition, before, after);
                prop_assert!(!is || all.contains(&number), "{} matches {}", condition, after);
            }
        }
        for (number, (condition, flavour)) in conditions.iter().enumerate() {
            standing.remove(number, condition, &shown(*flavour));
        }
        prop_assert_eq!(format!("{standing:?}"), format!("{:?}", Standing::default()), "something is left behind");
    }
}

/// How many of many conditions a change finds.
#[test]
fn a_change_finds_few_of_many() {
    let row = |site: &str, temperature: i64, other: i64| {
        json!({"deviceId": "d", "status": "enabled", "tags": {"site": site},
            "properties": {"reported": {"temperature": temperature, "other": other}}})
    };
    let check = |text: &dyn Fn(usize) -> String, before: Value, after: Value, expected_max: usize| {
        let mut standing = Standing::default();
        for number in 0..1000 {
            standing.insert(number, &condition(&text(number)), &Shown::Paths(Vec::new()));
        }
        let found = everything(standing.look(Some(&Document(&before)), &Document(&after)), &before, &after);
        assert!(found.len() <= expected_max, "{}: {} found", text(0), found.len());
    };
    let hot = "properties.reported.temperature";
    // Another path changed.
    check(&|n| format!("tags.site = 's{n}'"), row("s1", 1, 1), row("s1", 1, 2), 0);
    // The value as it was, and as it is.
    check(&|n| format!("tags.site = 's{n}'"), row("s1", 1, 1), row("s2", 1, 1), 2);
    check(&|n| format!("tags.site IN ['s{n}', 'x']"), row("s1", 1, 1), row("s2", 1, 1), 2);
    // What else the condition demands, and of several demands the one that tells conditions apart.
    check(&|n| format!("tags.site = 's{n}' AND {hot} > 20"), row("s1", 10, 1), row("s1", 30, 1), 1);
    let enabled = |n| format!("status = 'enabled' AND tags.site = 's{n}' AND {hot} > 20");
    check(&enabled, row("s1", 10, 1), row("s1", 30, 1), 2);
    // Thresholds between the values.
    check(&|n| format!("{hot} > {n}"), row("s1", 10, 1), row("s1", 12, 1), 3);
    check(&|n| format!("status = 'enabled' AND {hot} >= {n}"), row("s1", 10, 1), row("s1", 12, 1), 3);
    check(&|n| format!("{hot} > {n} AND {hot} < {n}5"), row("s1", 10, 1), row("s1", 10, 2), 0);
    // One of several.
    check(&|n| format!("tags.site = 's{n}' OR tags.site = 't{n}'"), row("s1", 1, 1), row("t2", 1, 1), 2);
}

#[test]
fn a_condition_of_a_thousand_alternatives_stands_in_few_places() {
    let alternatives: Vec<String> = (0..400).map(|n| format!("tags.k{n} = {n}")).collect();
    let condition = condition(&alternatives.join(" OR "));
    let mut standing = Standing::default();
    standing.insert(0, &condition, &Shown::Everything);
    let row = json!({"tags": {"k7": 7}});
    assert_eq!(standing.all_for(&Document(&row)), [0]);
    assert!(format!("{standing:?}").len() < 100_000, "it stands in too many places");
}
