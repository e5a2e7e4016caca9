//! What queries mean: three-valued logic, comparisons, functions, projection, order and aggregates.

use serde_json::{Value, json};

use super::super::{Aggregation, Document, ItemType, QUERY_GROUPS_MAX, Query};
use super::{matches, pump, query};
use crate::id::JobId;
use crate::job::ItemStatus;

/// Every condition holds, its negation does not.
#[test]
fn conditions_that_are_true() {
    for condition in [
        "*",
        "true",
        "deviceId = 'pump-17' AND DeviceID = 'pump-17' AND id = 'pump-17'",
        "tags.site = 'a' AND tags.Site = 'A'",
        "properties.reported.rate = 7 AND properties.reported.rate = 7.0 AND 0x07 = properties.reported.rate",
        "properties.desired.rate != properties.reported.rate",
        "properties.desired.$version = properties.reported.lastDesiredVersion",
        "properties.reported.$metadata.$lastUpdated > '2025-01-01T00:00:00Z'",
        "lastActivityTime < '2025-11-01' AND 'A' < 'a' AND 'ﬀ' < '👋' AND false < true",
        "configurations.[[cfg-a]].Status = 'Applied' AND capabilities.IOTEDGE = false",
        "array_contains(parentScopes, 'ms-azure-iot-edge://gw-1')",
        "properties.reported.batt * 100 / 2 > 0x1F + 3 % 2",
        "1 + 2 * 3 = 7 AND (1 + 2) * 3 = 9 AND 10 - 2 - 3 = 5 AND -7 % 4 = -3 AND 2 - -2 = 4",
        "properties.reported.connectivity IN ['wired', 'wifi'] AND properties.reported.rate NIN [1, 2]",
        "statusReason = null AND status != null AND null = null",
        "is_defined(statusReason) AND is_null(statusReason) AND NOT is_defined(tags.none) AND NOT is_null(tags.none)",
        "NOT is_defined(myProp) AND is_defined(tags) AND is_defined(properties.reported.cfg)",
        "tags.none = 1 OR true",
        "NOT (tags.none = 1 AND false)",
        "NOT is_defined(tags.none) OR tags.none != 'a'",
        "tags.[[my key]] = 1 AND tags.group.name = 'x'",
        "IS_STRING(deviceId) AND IS_NUMBER(version) AND IS_BOOL(properties.reported.on) AND IS_OBJECT(tags) \
         AND IS_ARRAY(properties.reported.list) AND IS_PRIMITIVE(statusReason) AND NOT IS_PRIMITIVE(tags) \
         AND NOT IS_PRIMITIVE(tags.none) AND NOT IS_STRING(tags.none)",
        "STARTSWITH(deviceId, 'pump-') AND ENDS_WITH(deviceId, '17') AND CONTAINS(deviceId, 'mp-1')",
        "LENGTH(properties.reported.text) = 7 AND INDEX_OF(properties.reported.text, 'ße') = 3 AND INDEX_OF('a','b') = -1",
        "UPPER(properties.reported.text) = 'GRÜSSE 👋' AND LOWER('ÄB') = 'äb'",
        "SUBSTRING(properties.reported.text, 2, 3) = 'üße' AND SUBSTRING('abc', 1) = 'bc' AND SUBSTRING('abc', 9) = '' \
         AND SUBSTRING('abc', -1, 2) = 'ab'",
        "CONCAT(tags.site, '-', deviceId) = 'a-pump-17'",
        "AS_NUMBER(properties.reported.numeral) = 12.5 AND AS_NUMBER(5) = 5 AND NOT IS_DEFINED(AS_NUMBER('x')) \
         AND NOT IS_DEFINED(AS_NUMBER('inf'))",
        "ABS(-2) = 2 AND CEILING(1.2) = 2 AND FLOOR(-1.2) = -2 AND SIGN(-3) = -1 AND SIGN(0) = 0 AND SQRT(9) = 3 \
         AND SQUARE(3) = 9 AND POWER(2, 10) = 1024 AND EXP(0) = 1",
        "ARRAY_LENGTH(properties.reported.list) = 3 AND ARRAY_CONTAINS(properties.reported.list, 1) \
         AND NOT ARRAY_CONTAINS(properties.reported.list, '1') AND ARRAY_CONTAINS([1, [2, 3]], [2, 3])",
    ] {
        assert!(matches(condition), "true: {condition}");
        if condition != "*" {
            assert!(!matches(&format!("NOT ({condition})")), "not false: {condition}");
        }
    }
}

/// Neither these nor their negations hold.
#[test]
fn conditions_that_are_undefined() {
    for condition in [
        "tags.none = 'a'",
        "tags.none != 'a'",
        "myProp = 'x'",
        "tags.SITE = 'a' OR tags.none = 1",
        "deviceId = 17",
        "deviceId != 17",
        "deviceId < 17",
        "null < 1",
        "tags = tags",
        "properties.reported.list = ['a']",
        "tags.none = tags.none",
        "undefined = undefined",
        "NOT tags.none",
        "NOT deviceId",
        "deviceId",
        "null",
        "1",
        "1 / 0 = 1",
        "1 % 0 = 1",
        "1e308 * 10 > 1",
        "'a' + 'b' = 'ab'",
        "-deviceId = 1",
        "SQRT(-1) = 1",
        "tags.none IN ['a']",
        "tags.none NIN ['a']",
        "tags.none IN []",
        "deviceId IN [1]",
        "STARTSWITH(tags.none, 'a')",
        "CONCAT('a', 1) = 'a1'",
        "ARRAY_CONTAINS(tags.none, 1)",
        "ARRAY_CONTAINS(parentScopes, tags.none)",
        "deviceId.x = 1",
        "properties.reported.list.[[0]] = 'a'",
        "tags.none = 1 AND true",
        "tags.none = 1 OR false",
        "jobId = 'x'",
    ] {
        assert!(!matches(condition), "not true: {condition}");
        assert!(!matches(&format!("NOT ({condition})")), "not false: {condition}");
    }
}

#[test]
fn conditions_that_are_false() {
    for condition in [
        "deviceId = 'PUMP-17'",
        "status = 'Enabled'",
        "statusReason != null",
        "deviceId = null",
        "tags.none = 1 AND false",
        "deviceId IN []",
        "deviceId IN ['a', null]",
    ] {
        assert!(!matches(condition), "not true: {condition}");
        assert!(matches(&format!("NOT ({condition})")), "false: {condition}");
    }
    assert!(!matches(""));
}

#[test]
fn job_status_is_compared_without_case() {
    let job = json!({"deviceId": "d1", "jobId": "r", "status": "completed", "jobType": "scheduleUpdateTwin",
        "createdDateTimeUtc": "2025-01-01T00:00:00Z", "error": {"code": "404103"}});
    let check = |condition: &str, expected: bool| {
        let query = query(&format!("SELECT * FROM devices.jobs WHERE {condition}"));
        assert_eq!(query.matches(&Document(&job)), expected, "{condition}");
    };
    check("devices.jobs.status = 'Completed' AND 'COMPLETED' = status", true);
    check("status IN ['Failed', 'Completed'] AND status NIN ['Failed']", true);
    check("status != 'Completed'", false);
    check("jobType = 'scheduleupdatetwin'", false);
    check("type = 'scheduleUpdateTwin' AND createdTimeUtc < '2026' AND error.CODE = '404103'", true);
    check("tags.site = 'a'", false);
}

#[test]
fn projections() {
    let check =
        |text: &str, expected: Value| assert_eq!(query(text).project(&Document(&pump())), expected, "{text}");
    check("SELECT * FROM devices", pump());
    check(
        "SELECT DeviceId, STATUSREASON, tags.none FROM devices",
        json!({"deviceId": "pump-17", "statusReason": null}),
    );
    check(
        "SELECT tags.Site AS site, properties.reported.rate AS [[my rate]] FROM devices",
        json!({"site": "A", "my rate": 7}),
    );
    check(
        "SELECT properties.reported.cfg, properties.desired.$version, version FROM devices",
        json!({"cfg": {"status": "ok", "freq": 60}, "$version": 21, "version": 24}),
    );
    check(
        "SELECT properties, properties.desired AS d FROM devices",
        json!({"properties": pump()["properties"], "d": pump()["properties"]["desired"]}),
    );
    check("SELECT unheard FROM devices", json!({}));
}

#[test]
fn rows_are_ordered() {
    let rows: Vec<Value> = [
        json!("b"),
        json!(10),
        json!(9.5),
        json!(null),
        json!("B"),
        json!(true),
        json!([1]),
    ]
    .into_iter()
    .enumerate()
    .map(
        |(index, value)| json!({"deviceId": index.to_string(), "tags": {"v": value, "even": index % 2 == 0}}),
    )
    .chain([json!({"deviceId": "7", "tags": {"even": false}})])
    .collect();
    let check = |order: &str, expected: &str| {
        let query = query(&format!("SELECT deviceId, tags.v AS v FROM devices ORDER BY {order}"));
        let mut rows: Vec<&Value> = rows.iter().collect();
        rows.sort_by_key(|row| query.sort_key(&Document(row)));
        let ids: String = rows.iter().filter_map(|row| row["deviceId"].as_str()).collect();
        assert_eq!(ids, expected, "{order}");
    };
    check("v", "73521406");
    check("tags.v DESC", "60412537");
    check("tags.even, deviceId DESC", "75316420");
    check("unheard", "01234567");
}

#[test]
fn aggregates() {
    let rows = [
        json!({"deviceId": "1", "tags": {"s": "a"}, "properties": {"reported": {"t": 1}}}),
        json!({"deviceId": "2", "tags": {"s": "b"}, "properties": {"reported": {"t": 2.5}}}),
        json!({"deviceId": "3", "tags": {"s": "a"}, "properties": {"reported": {"t": 4}}}),
        json!({"deviceId": "4", "tags": {"s": 1}, "properties": {"reported": {"t": "x"}}}),
        json!({"deviceId": "5", "properties": {"reported": {}}}),
    ];
    let check = |text: &str, expected: Value| {
        let query = query(text);
        assert!(query.is_aggregate());
        let mut aggregation = Aggregation::new(&query);
        for row in rows.iter().map(Document).filter(|row| query.matches(row)) {
            aggregation.add(&row).expect("few groups");
        }
        assert_eq!(Value::Array(aggregation.finish()), expected, "{text}");
    };
    check("SELECT COUNT() FROM devices", json!([{"count": 5}]));
    check("SELECT COUNT() AS n FROM devices WHERE tags.s = 'a'", json!([{"n": 2}]));
    check(
        "SELECT AVG(properties.reported.t), SUM(properties.reported.t), MIN(properties.reported.t) AS least, \
         MAX(properties.reported.t) FROM devices",
        json!([{"avg": 2.5, "sum": 7.5, "least": 1, "max": 4}]),
    );
    check(
        "SELECT COUNT(), AVG(tags.x), SUM(tags.x), MAX(tags.x) FROM devices WHERE false",
        json!([{"count": 0, "sum": 0}]),
    );
    check(
        "SELECT tags.s, COUNT() AS n FROM devices GROUP BY tags.s",
        json!([{"n": 1}, {"s": 1, "n": 1}, {"s": "a", "n": 2}, {"s": "b", "n": 1}]),
    );
    check(
        "SELECT TOP 2 tags.s AS status, COUNT() AS n FROM devices GROUP BY tags.s ORDER BY n DESC, status DESC",
        json!([{"status": "a", "n": 2}, {"status": "b", "n": 1}]),
    );
    // A column is found by its path before its alias.
    check(
        "SELECT TOP 1 tags.s AS deviceId, deviceId AS s, COUNT() FROM devices GROUP BY tags.s, deviceId \
         ORDER BY deviceId DESC",
        json!([{"s": "5", "count": 1}]),
    );
    check("SELECT tags.s FROM devices WHERE false GROUP BY tags.s", json!([]));
}

#[test]
fn equal_numbers_are_one_group() {
    let query = query("SELECT tags.x, COUNT() FROM devices GROUP BY tags.x");
    let mut aggregation = Aggregation::new(&query);
    for number in [json!(0), json!(-0.0), json!(0.0), json!(1), json!(1.0)] {
        aggregation.add(&Document(&json!({"tags": {"x": number}}))).expect("few groups");
    }
    assert_eq!(aggregation.finish(), [json!({"x": 0, "count": 3}), json!({"x": 1, "count": 2})]);
}

#[test]
fn groups_are_bounded() {
    let query = query("SELECT deviceId, COUNT() FROM devices GROUP BY deviceId");
    let mut aggregation = Aggregation::new(&query);
    let row = |number: usize| json!({"deviceId": number});
    for number in 0..QUERY_GROUPS_MAX {
        aggregation.add(&Document(&row(number))).expect("within the limit");
    }
    let error = aggregation.add(&Document(&row(QUERY_GROUPS_MAX))).expect_err("one too many");
    assert!(error.to_string().contains("narrow the query with WHERE"));
    aggregation.add(&Document(&row(0))).expect("a known group");
    let groups = aggregation.finish();
    assert_eq!((groups.len(), &groups[0]["count"]), (QUERY_GROUPS_MAX, &json!(2)));
}

#[test]
fn the_records_of_a_job() {
    let job = JobId::parse("it-2").expect("a name");
    let check = |status: Option<ItemStatus>, text: &str| {
        let asked = Query::of_job(&job, status);
        assert_eq!((asked.to_string().as_str(), &query(text)), (text, &asked));
        assert_eq!(asked.item_type(), ItemType::DeviceJob);
    };
    check(None, "SELECT * FROM devices.jobs WHERE jobId = 'it-2'");
    check(Some(ItemStatus::Failed), "SELECT * FROM devices.jobs WHERE jobId = 'it-2' AND status = 'failed'");
}
