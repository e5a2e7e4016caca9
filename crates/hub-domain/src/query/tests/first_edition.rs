//! JSON queries of the first edition: what they mean as texts, and what is refused where.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Document, QUERY_FILTER_LEVELS_MAX, Query};
use super::pump;

fn property(kind: &str, name: &str) -> Value {
    json!({"type": kind, "name": name})
}

fn compare(kind: &str, name: &str, operator: &str, value: Value) -> Value {
    json!({
        "type": "comparison", "property": property(kind, name), "comparisonOperator": operator, "value": value
    })
}

fn logical(operator: &str, filters: &[Value]) -> Value {
    json!({"type": "logical", "logicalOperator": operator, "filters": filters})
}

/// The document says what the text says, and its text is a query that says the same.
fn check(document: Value, text: &str) {
    let query = Query::from_document(&document).unwrap_or_else(|error| panic!("{document}: {error}"));
    assert_eq!(query.to_string(), text, "{document}");
    assert_eq!(Query::parse(text), Ok(query));
}

#[test]
fn filters_become_conditions() {
    let check = |filter: Value, condition: &str| {
        check(json!({"filter": filter}), &format!("SELECT * FROM devices WHERE {condition}"));
    };
    check(
        compare("device", "FirmwareVersion", "eq", json!("1.0")),
        "properties.reported.FirmwareVersion = '1.0'",
    );
    check(
        compare("device", "firmware.version", "ne", json!("1.0")),
        "properties.reported.firmware.version != '1.0'",
    );
    check(compare("service", "CustomerId", "eq", json!("123456")), "tags.CustomerId = '123456'");
    check(compare("service", "my-key", "gt", json!(5)), "tags.[[my-key]] > 5");
    check(compare("service", "QoS", "gte", json!(-1.5)), "tags.QoS >= -1.5");
    check(compare("default", "DEVICEID", "lt", json!("b")), "deviceId < 'b'");
    check(compare("default", "capabilities.iotEdge", "lte", json!(true)), "capabilities.iotEdge <= true");
    check(
        compare("service", "CustomerId", "eq", Value::Null),
        "NOT IS_DEFINED(tags.CustomerId) OR IS_NULL(tags.CustomerId)",
    );
    check(
        compare("service", "CustomerId", "ne", Value::Null),
        "IS_DEFINED(tags.CustomerId) AND NOT IS_NULL(tags.CustomerId)",
    );
    check(compare("service", "site", "in", json!(["a", null, 2])), "tags.site IN ['a', null, 2]");
    check(compare("service", "site", "nin", json!([false])), "tags.site NIN [false]");
    check(
        compare("device", "list", "all", json!(["a", 1])),
        "ARRAY_CONTAINS(properties.reported.list, 'a') AND ARRAY_CONTAINS(properties.reported.list, 1)",
    );
    check(
        compare("default", "Tags", "all", json!(["bacon", "site.line"])),
        "IS_DEFINED(tags.bacon) AND IS_DEFINED(tags.site.line)",
    );
    let a = compare("service", "a", "eq", json!(1));
    let b = compare("service", "b", "eq", json!("it's"));
    check(logical("and", &[a.clone(), b.clone()]), "tags.a = 1 AND tags.b = 'it\\'s'");
    check(logical("or", &[a.clone(), b.clone(), a.clone()]), "tags.a = 1 OR tags.b = 'it\\'s' OR tags.a = 1");
    check(logical("not", std::slice::from_ref(&a)), "NOT tags.a = 1");
    check(logical("and", std::slice::from_ref(&a)), "tags.a = 1");
    let either = logical("or", &[a.clone(), b]);
    check(logical("not", std::slice::from_ref(&either)), "NOT (tags.a = 1 OR tags.b = 'it\\'s')");
    check(logical("and", &[a, either]), "tags.a = 1 AND (tags.a = 1 OR tags.b = 'it\\'s')");
}

#[test]
fn the_other_parts_become_columns_groups_and_order() {
    let total = |operator: &str| json!({"operator": operator, "property": property("service", "Weight"), "columnName": "n"});
    check(json!({"filter": null, "project": null, "aggregate": null, "sort": null}), "SELECT * FROM devices");
    check(json!({"project": {"all": true, "properties": []}}), "SELECT * FROM devices");
    check(
        json!({"project": {"all": false, "properties": [property("service", "CustomerId"), property("device", "a.b")]}}),
        "SELECT tags.CustomerId, properties.reported.a.b FROM devices",
    );
    for (operator, function) in [("sum", "SUM"), ("avg", "AVG"), ("min", "MIN"), ("max", "MAX")] {
        check(
            json!({"aggregate": {"keys": [property("service", "CustomerId")], "properties": [total(operator)]}}),
            &format!(
                "SELECT tags.CustomerId, {function}(tags.Weight) AS n FROM devices GROUP BY tags.CustomerId"
            ),
        );
    }
    let count =
        json!({"operator": "count", "property": property("default", "status"), "columnName": "my devices"});
    check(
        json!({
            "aggregate": {"keys": [property("default", "status")], "properties": [count]},
            "sort": [
                {"property": property("aggregated", "my devices"), "order": "desc"},
                {"property": property("default", "Status"), "order": "asc"},
            ]
        }),
        "SELECT status, COUNT() AS [[my devices]] FROM devices GROUP BY status ORDER BY [[my devices]] DESC, status",
    );
    check(
        json!({"sort": {"property": property("service", "QoS"), "order": "asc"}}),
        "SELECT * FROM devices ORDER BY tags.QoS",
    );
    check(json!(["bacon"]), "SELECT * FROM devices WHERE IS_DEFINED(tags.bacon)");
}

#[test]
fn they_select_what_they_say() {
    let check = |filter: Value, expected: bool| {
        let query = Query::from_document(&json!({"filter": filter})).expect("a query");
        assert_eq!(query.matches(&Document(&pump())), expected, "{query}");
    };
    check(compare("device", "batt", "gte", json!(80)), true);
    check(compare("service", "none", "eq", Value::Null), true);
    check(compare("service", "none", "ne", Value::Null), false);
    check(compare("service", "none", "ne", json!("a")), false);
    check(compare("service", "group", "ne", Value::Null), true);
    check(compare("default", "statusReason", "eq", Value::Null), true);
    check(compare("device", "list", "all", json!(["a", 1])), true);
    check(compare("device", "list", "all", json!(["a", 2])), false);
    check(compare("default", "tags", "all", json!(["site", "location.region"])), true);
    check(compare("default", "tags", "all", json!(["site", "bacon"])), false);
}

#[test]
fn errors_say_where_and_what_would_be_right() {
    let refused = |document: Value, words: &[&str]| {
        let error = Query::from_document(&document).expect_err(&document.to_string()).to_string();
        assert!(words.iter().all(|part| error.contains(part)), "{document}: {error}");
        assert!(error.len() < 300, "short: {error}");
    };
    let filter = |filter: Value, words: &[&str]| refused(json!({"filter": filter}), words);
    refused(json!(5), &["is 5; expected an object"]);
    refused(json!({"filtre": 1}), &["unknown member 'filtre'", "filter, project, aggregate, sort"]);
    refused(json!([]), &["at least one tag"]);
    refused(json!(["a", 7]), &["at '[1]'", "is 7"]);
    refused(json!(["a..b"]), &["at '[0]'", "a dot before each inner one"]);
    filter(json!([]), &["at 'filter': is []; expected an object"]);
    filter(json!({}), &["at 'filter': has no 'type'", "comparison or logical"]);
    filter(json!({"type": "between"}), &["at 'filter.type'", "one of comparison, logical"]);
    filter(logical("xor", &[]), &["at 'filter.logicalOperator'", "one of and, or, not"]);
    filter(logical("and", &[]), &["at 'filter.filters': is []", "at least one filter"]);
    filter(logical("not", &[json!({}), json!({})]), &["at 'filter.filters': has 2 filters", "takes one"]);
    filter(logical("or", &[Value::Null]), &["at 'filter.filters[0]': is null"]);
    filter(json!({"type": "logical", "operator": "and", "filters": []}), &["'operator'", "logicalOperator"]);
    let inner =
        logical("and", &[compare("service", "a", "eq", json!(1)), compare("service", "a", "is", json!(1))]);
    filter(
        logical("or", &[inner]),
        &["at 'filter.filters[0].filters[1].comparisonOperator': is \"is\"", "eq, ne"],
    );
    filter(compare("tag", "a", "eq", json!(1)), &["at 'filter.property.type'", "device, service, default"]);
    filter(compare("service", "", "eq", json!(1)), &["at 'filter.property.name'"]);
    filter(compare("service", "a]]b", "eq", json!(1)), &["without ]]"]);
    filter(compare("default", "colour", "eq", json!(1)), &["is \"colour\"; expected a field", "deviceId"]);
    filter(
        compare("default", "tags", "eq", json!("a")),
        &["comparisonOperator", "the only operator for tags"],
    );
    filter(compare("aggregated", "n", "eq", json!(1)), &["at 'filter.property'", "only be sorted by"]);
    filter(compare("service", "a", "eq", json!({"x": 1})), &["at 'filter.value': is {\"x\":1}", "a string"]);
    filter(compare("service", "a", "gt", Value::Null), &["at 'filter.value': is null", "eq and ne"]);
    filter(compare("service", "a", "in", json!("b")), &["at 'filter.value'", "a list of values"]);
    filter(compare("service", "a", "in", json!([[1]])), &["at 'filter.value[0]'"]);
    let mut without = compare("service", "a", "eq", json!(1));
    without.as_object_mut().expect("an object").remove("value");
    filter(without, &["at 'filter': has no 'value'", "write null"]);

    refused(json!({"project": {}}), &["at 'project': has no 'properties'"]);
    refused(json!({"project": {"all": "no"}}), &["at 'project.all'", "true or false"]);
    refused(json!({"project": {"all": false, "properties": []}}), &["at 'project.properties'"]);
    let both = [property("service", "a"), property("device", "a")];
    refused(json!({"project": {"properties": both}}), &["at 'project.properties': two columns", "'a'"]);
    refused(
        json!({"project": {"properties": [property("default", "tags")]}}),
        &["properties[0]", "operator all"],
    );
    refused(json!({"project": {"all": true}, "aggregate": {}}), &["at 'aggregate'", "beside 'project'"]);

    let aggregate = |column: Value, words: &[&str]| {
        refused(json!({"aggregate": {"keys": [property("service", "a")], "properties": [column]}}), words);
    };
    refused(json!({"aggregate": {"keys": []}}), &["at 'aggregate.keys'"]);
    aggregate(
        json!({"operator": "median"}),
        &["at 'aggregate.properties[0].operator'", "sum, avg, min, max, count"],
    );
    aggregate(
        json!({"operator": "sum", "columnName": "n"}),
        &["at 'aggregate.properties[0]': has no 'property'"],
    );
    aggregate(json!({"operator": "count"}), &["has no 'columnName'"]);
    aggregate(json!({"operator": "count", "columnName": "a$"}), &["columnName'", "without $"]);
    aggregate(json!({"operator": "count", "columnName": "a"}), &["at 'aggregate': two columns"]);
    let others = json!({"operator": "count", "property": property("service", "b"), "columnName": "n"});
    aggregate(others, &["leave 'property' out"]);

    let sort = |sort: Value, words: &[&str]| refused(json!({"sort": sort}), words);
    sort(json!([]), &["at 'sort': is []"]);
    sort(json!({"property": property("service", "a"), "order": "up"}), &["at 'sort.order'", "asc, desc"]);
    sort(json!([{"order": "asc"}]), &["at 'sort[0]': has no 'property'"]);
    sort(json!([{"order": "asc", "property": property("aggregated", "n")}]), &["at 'sort[0].property'"]);
    refused(
        json!({
            "aggregate": {"keys": [property("service", "a")], "properties": [{"operator": "count", "columnName": "n"}]},
            "sort": {"property": property("service", "b"), "order": "asc"}
        }),
        &["at 'sort.property'", "no column of 'aggregate'"],
    );
}

#[test]
fn size_and_depth_are_bounded() {
    let nested = |levels: usize| {
        let leaf = compare("default", "tags", "all", json!(["a"]));
        let filter = (1..levels).fold(leaf, |inner, level| {
            let operator = if level % 2 == 0 { "not" } else { "and" };
            let other = compare("service", "b", "eq", Value::Null);
            if operator == "not" { logical("not", &[inner]) } else { logical("and", &[inner, other]) }
        });
        json!({"filter": filter})
    };
    let deepest = Query::from_document(&nested(QUERY_FILTER_LEVELS_MAX)).expect("the deepest");
    assert_eq!(Query::parse(&deepest.to_string()), Ok(deepest));
    let error = Query::from_document(&nested(QUERY_FILTER_LEVELS_MAX + 1)).expect_err("too deep").to_string();
    assert!(error.contains("nested too deeply: at most 30 levels"), "{error}");

    let long = compare("service", "a", "eq", json!("x".repeat(9000)));
    let error = Query::from_document(&json!({"filter": long})).expect_err("too long").to_string();
    assert!(error.contains("at most 8192 are allowed"), "{error}");
    let many = compare("service", "a", "in", json!(vec![1; 257]));
    let error = Query::from_document(&json!({"filter": many})).expect_err("too many").to_string();
    assert!(error.contains("at 'filter.value': has 257 elements; at most 256"), "{error}");
}

/// Documents that are queries for a while.
fn document() -> impl Strategy<Value = Value> {
    let word = proptest::sample::select(vec![
        "type",
        "comparison",
        "logical",
        "and",
        "not",
        "filters",
        "logicalOperator",
        "property",
        "value",
        "eq",
        "all",
        "in",
        "comparisonOperator",
        "name",
        "device",
        "service",
        "default",
        "tags",
        "a",
        "a.b",
        "",
        "filter",
        "sort",
        "order",
        "asc",
        "project",
        "aggregate",
        "keys",
        "properties",
        "columnName",
        "sum",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 5, move |inner| {
        let comparison = (word.clone(), any::<String>(), inner.clone())
            .prop_map(|(operator, name, value)| compare("service", &name, operator, value));
        prop_oneof![
            2 => comparison,
            2 => proptest::collection::vec(inner.clone(), 0..3).prop_map(|filters| logical("or", &filters)),
            1 => inner.clone().prop_map(|filter| json!({"filter": filter})),
            1 => proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            1 => proptest::collection::btree_map(word.clone(), inner, 0..4).prop_map(|members| {
                members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Value>()
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is read can be written as a text that means the same.
    #[test]
    fn any_document_is_a_query_or_an_error(document in document()) {
        for document in [json!({"filter": document}), document] {
            if let Ok(query) = Query::from_document(&document) {
                prop_assert_eq!(Query::parse(&query.to_string()), Ok(query));
            }
        }
    }
}
