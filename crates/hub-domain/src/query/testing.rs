//! Random queries, conditions and rows for property tests, here and in crates that evaluate queries: everything that the
//! grammar can say. Must never be in a product: it is only there for tests and with the feature `testing`.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

use super::ast::{
    Arithmetic, Comparison, Condition, Expr, Item, ItemValue, OrderBy, OrderKey, Query, Scope, Select, Source,
};
use super::function::Function;
use super::path::Path;

/// Names in a small world, so that random paths meet random rows, and some that need brackets.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => select(vec!["a", "b", "status", "$version"]).prop_map(str::to_owned),
        1 => select(vec!["GROUP", "from", "my key", "1", "]", "a]", "[[", "'", "ß", "devices", "jobs", "/*"])
            .prop_map(str::to_owned),
        1 => any::<String>().prop_filter("a name in brackets ends at the first ]]", |name| {
            !name.is_empty() && !name.contains("]]")
        }),
    ]
}

fn path(source: Source) -> impl Strategy<Value = Path> {
    let roots: Vec<Vec<&str>> = match source {
        Source::DeviceJobs => {
            vec![vec!["deviceId"], vec!["status"], vec!["error"], vec!["outcome"], vec!["nope"]]
        }
        Source::Devices | Source::DeviceModules | Source::RetiredDevices => vec![
            vec!["deviceId"],
            vec!["retirement"],
            vec!["status"],
            vec!["version"],
            vec!["tags"],
            vec!["properties"],
            vec!["properties", "desired"],
            vec!["properties", "reported"],
            vec!["configurations"],
            vec!["devices"],
            vec!["devices", "strange thing"],
            vec!["nope"],
        ],
    };
    (select(roots), vec(name(), 0..3)).prop_filter_map(
        "a prefix of another source",
        move |(root, segments)| {
            let names = root.into_iter().map(str::to_owned).chain(segments).collect();
            Path::resolve(source, names).ok()
        },
    )
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![(-3..4).prop_map(f64::from), any::<f64>().prop_filter("finite", |number| number.is_finite()),]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number().prop_map(Value::from),
        select(vec!["", "a", "b", "12", "it's"]).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ]
}

fn constant() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(2, 6, 3, |element| vec(element, 0..3).prop_map(Value::Array))
}

fn expression(source: Source) -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        1 => Just(Expr::Undefined),
        3 => constant().prop_map(Expr::Constant),
        4 => path(source).prop_map(Expr::Path),
    ];
    leaf.prop_recursive(5, 40, 4, |operand| {
        let boxed = || operand.clone().prop_map(Box::new);
        let additive = select(vec![Arithmetic::Add, Arithmetic::Subtract]);
        let multiplicative = select(vec![Arithmetic::Multiply, Arithmetic::Divide, Arithmetic::Remainder]);
        let comparison = select(vec![
            Comparison::Equal,
            Comparison::NotEqual,
            Comparison::Less,
            Comparison::LessOrEqual,
            Comparison::Greater,
            Comparison::GreaterOrEqual,
        ]);
        prop_oneof![
            boxed().prop_map(Expr::Not),
            boxed().prop_map(|operand| match *operand {
                Expr::Constant(Value::Number(_)) => *operand,
                _ => Expr::Negate(operand),
            }),
            vec(operand.clone(), 2..4).prop_map(Expr::All),
            vec(operand.clone(), 2..4).prop_map(Expr::Any),
            (boxed(), vec((additive, operand.clone()), 1..3))
                .prop_map(|(first, rest)| Expr::Chain { first, rest }),
            (boxed(), vec((multiplicative, operand.clone()), 1..3))
                .prop_map(|(first, rest)| Expr::Chain { first, rest }),
            (comparison, boxed(), boxed()).prop_map(|(operator, left, right)| Expr::Compare {
                operator,
                left,
                right
            }),
            (boxed(), vec(constant(), 0..3), any::<bool>()).prop_map(|(left, list, negated)| Expr::In {
                left,
                list,
                negated
            }),
            (select(Function::ALL), vec(operand.clone(), 3)).prop_map(|(function, mut arguments)| {
                arguments.truncate(function.arity().1);
                Expr::Call { function, arguments }
            }),
        ]
    })
}

/// Any source.
pub fn source() -> impl Strategy<Value = Source> {
    select(vec![Source::Devices, Source::DeviceModules, Source::DeviceJobs, Source::RetiredDevices])
}

/// A condition over a source.
pub fn condition(source: Source) -> impl Strategy<Value = Condition> {
    let scope = prop_oneof![1 => Just(Scope::Everything), 9 => expression(source).prop_map(Scope::Where)];
    scope.prop_map(move |scope| Condition { source, scope })
}

/// Columns with names that nothing else has, so that every combination is valid; every other one needs brackets.
fn items(values: Vec<ItemValue>) -> Vec<Item> {
    let name = |index| if index % 2 == 0 { format!("column{index}") } else { format!("my column {index}") };
    let named = values.into_iter().enumerate();
    named.map(|(index, value)| Item { value, alias: Some(name(index)) }).collect()
}

fn aggregate(source: Source) -> impl Strategy<Value = ItemValue> {
    prop_oneof![
        Just(ItemValue::Count),
        path(source).prop_map(ItemValue::Average),
        path(source).prop_map(ItemValue::Sum),
        path(source).prop_map(ItemValue::Minimum),
        path(source).prop_map(ItemValue::Maximum),
    ]
}

/// A query over any source.
pub fn query() -> impl Strategy<Value = Query> {
    let order = || vec((any::<Index>(), any::<bool>()), 0..3);
    source().prop_flat_map(move |source| {
        let rest = (condition(source), proptest::option::of(0..5u64));
        let rows = (vec(path(source), 0..3), vec(path(source), 0..3), order(), rest);
        let groups = (
            vec(path(source), 0..3),
            vec(aggregate(source), 1..3),
            order(),
            (condition(source), proptest::option::of(0..5u64)),
        );
        prop_oneof![
            rows.prop_map(|(columns, order, directions, (condition, top))| {
                let select = match columns.is_empty() {
                    true => Select::All,
                    false => Select::Items(items(columns.into_iter().map(ItemValue::Path).collect())),
                };
                let by = order.into_iter().zip(directions);
                let order_by =
                    by.map(|(path, (_, descending))| OrderKey { by: OrderBy::Path(path), descending });
                Query { top, select, condition, group_by: Vec::new(), order_by: order_by.collect() }
            }),
            groups.prop_map(|(group_by, aggregates, order, (condition, top))| {
                let mut paths = group_by.clone();
                paths.sort();
                paths.dedup();
                let columns = items(paths.into_iter().map(ItemValue::Path).chain(aggregates).collect());
                let by = order.into_iter().map(|(index, descending)| OrderKey {
                    by: OrderBy::Column(index.index(columns.len())),
                    descending,
                });
                let order_by = by.collect();
                Query { top, select: Select::Items(columns), condition, group_by, order_by }
            }),
        ]
    })
}

/// Rows whose members have the names that random paths look for, and any JSON at all behind them.
pub fn row() -> impl Strategy<Value = Value> {
    let json = scalar().prop_recursive(3, 16, 4, |element| {
        prop_oneof![
            vec(element.clone(), 0..3).prop_map(Value::Array),
            btree_map(name(), element, 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    (json.clone(), json.clone(), json.clone(), json.clone(), json).prop_map(
        |(id, status, tags, desired, reported)| {
            serde_json::json!({
                "deviceId": id, "status": status, "version": 1, "tags": tags,
                "properties": {"desired": desired, "reported": reported},
                "configurations": {"a": {"status": "Applied"}}, "error": {"code": "1"}
            })
        },
    )
}

/// Texts that look like queries for a while.
pub fn token_soup() -> impl Strategy<Value = String> {
    let tokens = select(vec![
        "SELECT",
        "TOP",
        "*",
        "FROM",
        "devices",
        ".",
        "jobs",
        "modules",
        "WHERE",
        "GROUP",
        "BY",
        "ORDER",
        "ASC",
        "DESC",
        "AS",
        "AND",
        "OR",
        "NOT",
        "IN",
        "NIN",
        "true",
        "null",
        "undefined",
        "(",
        ")",
        "[",
        "]",
        "[[",
        "]]",
        ",",
        "=",
        "!=",
        "<",
        "<=",
        "+",
        "-",
        "/",
        "%",
        "1",
        "0x1F",
        "1e5",
        "'a'",
        "\"b\"",
        "'",
        "\\",
        "/*",
        "*/",
        "tags",
        "a",
        "status",
        "COUNT",
        "AVG",
        "LENGTH",
        "CONCAT",
        "é",
        "👋",
        "\n",
    ]);
    let words = vec((tokens, select(vec!["", " ", " "])), 0..20);
    let prefix = select(vec!["", "SELECT * FROM devices WHERE ", "SELECT tags.a, "]);
    (prefix, words).prop_map(|(prefix, words)| {
        let written: String = words.into_iter().flat_map(|(word, blank)| [word, blank]).collect();
        format!("{prefix}{written}")
    })
}
