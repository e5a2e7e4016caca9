//! Tables of what is a configuration and what is not, and what its document says.

mod properties;
mod staged;
mod transitions;

use serde_json::{Value, json};

use super::*;
use crate::id::{ConfigurationId, ModuleId};
use crate::identity::{Authentication, Identity, Status};
use crate::query::{Condition, Query};
use crate::twin::{Connection, Twin};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn id(text: &str) -> ConfigurationId {
    ConfigurationId::parse(text).expect("an id")
}

fn spec(name: &str, value: Value) -> Result<ConfigurationSpec, ConfigurationError> {
    ConfigurationSpec::parse(id(name), &value)
}

/// One with this content for whatever twin.
fn configuration(name: &str, priority: u32, created: i64, content: Value) -> Configuration {
    let spec = spec(name, json!({ "content": content, "priority": priority })).expect("a configuration");
    Configuration::create(spec, at(created))
}

fn device(name: &str, priority: u32, created: i64, content: Value) -> Configuration {
    configuration(name, priority, created, json!({ "deviceContent": content }))
}

fn edge(name: &str, priority: u32, content: Value) -> Configuration {
    configuration(name, priority, 0, json!({ "modulesContent": content }))
}

fn module(name: &str) -> ModuleId {
    ModuleId::parse(name).expect("a module id")
}

/// The whole document of S 8.1.
fn example() -> Value {
    json!({
        "id": "cfg-a", "schemaVersion": "1.0", "contentType": "assignment", "labels": {"team": "x"},
        "content": {"deviceContent": {
            "properties.desired.chiller": {"t": 66, "p": 28},
            "properties.desired.mode": "eco",
            "properties.desired.old": null,
        }},
        "targetCondition": "tags.site='a'", "priority": 10,
        "systemMetrics": {"results": {"targetedCount": 3}, "queries": {"targetedCount": "anything"}},
        "metrics": {"results": {"ok": 2}, "queries": {"ok": "SELECT deviceId FROM devices"}},
        "etag": "MQ==",
    })
}

#[test]
fn the_document_of_the_service_comes_out_as_it_went_in() {
    let configuration = Configuration::create(spec("cfg-a", example()).expect("valid"), at(5));
    let mut expected = example();
    expected["createdTimeUtc"] = json!("1970-01-01T00:00:05.0000000Z");
    expected["lastUpdatedTimeUtc"] = expected["createdTimeUtc"].clone();
    expected["metrics"]["results"] = json!({});
    expected["systemMetrics"] = json!({"results": {}, "queries": {
        "targetedCount": "select deviceId from devices where tags.site = 'a'",
        "appliedCount": "select deviceId from devices where configurations.[[cfg-a]].status = 'Applied'",
    }});
    assert_eq!(configuration.to_json(), expected);
    // The digest is in .NET ticks.
    assert_eq!(configuration.by().digest(), 621_355_968_050_000_000);
    let Content::Device(section) = &configuration.spec().content else { panic!("device content") };
    let leaves: Vec<_> = section.leaves().map(|(path, value)| (path.as_str(), Value::clone(value))).collect();
    let expected =
        [("chiller.p", json!(28)), ("chiller.t", json!(66)), ("mode", json!("eco")), ("old", Value::Null)];
    assert_eq!(leaves, expected);
}

#[test]
fn little_is_enough() {
    let spec = spec("c", json!({ "content": {"moduleContent": null, "deviceContent": {}}, "labels": null }));
    let configuration = Configuration::create(spec.expect("valid"), at(0));
    let document = configuration.to_json();
    assert_eq!((&document["priority"], &document["targetCondition"]), (&json!(0), &json!("")));
    assert_eq!((&document["labels"], &document["schemaVersion"]), (&json!({}), &Value::Null));
    assert!(configuration.spec().target.condition().is_nothing());
}

/// `change` of the example, by JSON pointer.
fn changed(pointer: &str, value: Value) -> Value {
    let mut document = example();
    *document.pointer_mut(pointer).expect("a member") = value;
    document
}

#[test]
fn what_is_no_configuration_is_refused_with_a_reason() {
    let check = |document: Value, problem: Problem, part: &str| {
        let error = spec("cfg-a", document).expect_err(part);
        assert!(error.problem == problem && error.to_string().contains(part), "{part}: {error:?}");
    };
    let content = |value: Value| changed("/content", value);
    let leaf = |key: &str, value: Value| content(json!({"deviceContent": {key: value}}));
    let (field, bad) = (Problem::Field, Problem::Content);
    check(json!([]), field, "JSON object");
    check(changed("/id", json!("cfg-b")), field, "id is \"cfg-b\" here, but 'cfg-a' in the path");
    check(changed("/labels", json!({"a": 1})), field, "labels.a must be a string");
    check(changed("/labels", json!({"a": "x".repeat(8192)})), field, "labels have 8193 bytes");
    check(changed("/schemaVersion", json!(1)), field, "schemaVersion must be a string");
    check(changed("/contentType", json!("x".repeat(129))), field, "contentType has 129 characters");
    for priority in [json!(-1), json!(1.5), json!("1"), json!(2_147_483_648_u32)] {
        check(changed("/priority", priority), field, "expected a whole number from 0 to 2147483647");
    }
    check(changed("/metrics", json!({"queries": {"": "SELECT * FROM devices"}})), field, "expected 1 to 128");
    check(changed("/metrics/queries/ok", json!(1)), field, "metrics.queries.ok must be a string");
    let six: Value = (0..6).map(|n| (n.to_string(), json!("SELECT * FROM devices"))).collect();
    check(changed("/metrics/queries", six), field, "has 6 queries, at most 5");
    check(
        changed("/metrics/queries/ok", json!("SELECT")),
        Problem::MetricQuery,
        "metrics.queries.ok: Line 1:7",
    );
    check(content(Value::Null), bad, "content is missing");
    check(content(json!({})), bad, "exactly one of deviceContent, moduleContent and modulesContent");
    check(
        content(
            json!({"deviceContent": {"properties.desired.a": 1}, "moduleContent": {"properties.desired.a": 1}}),
        ),
        bad,
        "exactly one of",
    );
    check(content(json!({"deviceContent": 5})), bad, "content.deviceContent must be an object");
    check(leaf("properties.reported.a", json!(1)), bad, "'properties.reported.a' is no path; expected");
    check(leaf("properties.desiredx", json!(1)), bad, "is no path");
    check(leaf("tags", json!({})), bad, "is no path");
    check(leaf("properties.desired", json!(5)), bad, "must be an object");
    check(leaf("properties.desired", Value::Null), bad, "must be an object");
    check(leaf("properties.desired.", json!(5)), bad, "'properties.desired.': a property name is empty");
    check(leaf("properties.desired.a..b", json!(5)), bad, "a property name is empty");
    check(leaf("properties.desired.a b", json!(5)), bad, "contains ' '");
    check(leaf("properties.desired.a", json!({"$b": 1})), bad, "at 'a': property name \"$b\"");
    check(leaf("properties.desired.a", json!([null])), bad, "arrays cannot contain null");
    check(leaf("properties.desired.a", json!(1_u64 << 53)), bad, "outside of");
    check(leaf("properties.desired.a", json!("x".repeat(4097))), bad, "4097 bytes, at most 4096");
    check(leaf("properties.desired.a.b.c.d.e.f.g.h.i.j.k.l", json!({})), bad, "nested deeper");
    for (one, other) in [
        ("properties.desired", "properties.desired.a"),
        ("properties.desired.a", "properties.desired.a.b"),
        ("properties.desired.a", "properties.desired.a.b.c"),
    ] {
        let value = if one == DESIRED_ROOT { json!({"a": 1}) } else { json!(1) };
        check(content(json!({"deviceContent": {one: value, other: 1}})), bad, "overlap");
    }
    let large: Value =
        (0..9).map(|n| (format!("properties.desired.k{n}"), json!("x".repeat(4096)))).collect();
    check(content(json!({"deviceContent": large})), bad, "36882 bytes, a twin holds 32768");
    check(leaf("properties.desired.a", json!("x".repeat(131_072))), bad, "at most 131072 are allowed");
    check(content(json!({"modulesContent": {"a/b": {}}})), bad, "module id is not valid");
    check(
        content(json!({"modulesContent": {"m": {"a": 1}}})),
        bad,
        "content.modulesContent.m: 'a' is no path",
    );
    let modules: Value = (0..51).map(|n| (format!("m{n}"), json!({}))).collect();
    check(content(json!({"modulesContent": modules})), bad, "has 51 modules, at most 50");
}

const DESIRED_ROOT: &str = "properties.desired";

#[test]
fn conditions_fit_their_content() {
    let check = |kind: ContentKind, text: &str, expected: Result<(), &str>| match (
        TargetCondition::parse(text, Some(kind)),
        expected,
    ) {
        (Ok(target), Ok(())) => assert_eq!(target.text(), text),
        (Err(error), Err(part)) => {
            assert_eq!(error.problem, Problem::TargetCondition);
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
        (result, expected) => panic!("{text}: {result:?}, expected {expected:?}"),
    };
    use ContentKind::{Device, Edge, Module};
    for kind in [Device, Edge] {
        check(kind, "*", Ok(()));
        check(kind, "tags.site='a' AND properties.reported.fw = '1'", Ok(()));
        check(kind, "FROM devices.modules WHERE tags.a = 1", Err("expected a condition over devices"));
    }
    check(Module, "", Ok(()));
    check(Module, "FROM devices.modules WHERE tags.a = 1", Ok(()));
    check(Module, "*", Err("expected FROM devices.modules WHERE"));
    check(Module, "tags.a = 1", Err("expected FROM devices.modules WHERE"));
    check(Device, "tags.site =", Err("targetCondition: Line 1:12"));
    check(Device, "FROM devices.jobs WHERE jobId = 'a'", Err("expected a condition over devices"));
    for loops in
        ["NOT is_defined(properties.desired.a)", "configurations.[[a]].status = 'Applied'", "version > 3"]
    {
        check(Device, loops, Err("changes when configurations are applied"));
    }
}

fn identity(module: Option<&str>, edge: bool) -> Identity {
    Identity {
        id: crate::id::TwinId::parse("d", module).expect("an id"),
        generation: "1".into(),
        etag_counter: 1,
        status: Status::Enabled,
        status_reason: None,
        status_updated: Timestamp::NEVER,
        authentication: Authentication::None,
        managed_by: None,
        edge,
        device_scope: None,
        parent_scopes: Vec::new(),
    }
}

#[test]
fn each_content_has_its_twins() {
    let all = "FROM devices.modules WHERE true";
    for (field, condition, expected) in [
        // A device, an edge device, a module.
        ("deviceContent", "*", [true, true, false]),
        ("modulesContent", "*", [false, true, false]),
        ("moduleContent", all, [false, false, true]),
        ("deviceContent", "", [false, false, false]),
        ("deviceContent", "deviceId = 'x'", [false, false, false]),
    ] {
        let spec = spec("c", json!({"content": {field: {}}, "targetCondition": condition})).expect("valid");
        let configuration = Configuration::create(spec, at(0));
        let twin = Twin::new(at(0));
        let targets = [(None, false), (None, true), (Some("m"), false)].map(|(module, edge)| {
            let identity = identity(module, edge);
            configuration.targets(&TwinDocument {
                identity: &identity,
                twin: &twin,
                connection: Connection::NEVER,
            })
        });
        assert_eq!(targets, expected, "{field} {condition}");
    }
}

#[test]
fn the_queries_of_system_metrics_are_queries() {
    let check = |field: &str, condition: &str, targeted: &str| {
        let spec = spec("c", json!({"content": {field: {}}, "targetCondition": condition})).expect("valid");
        let metrics = Configuration::create(spec, at(0)).system_metrics();
        let found = metrics.iter().find(|(name, _)| *name == "targetedCount").map(|(_, text)| text.as_str());
        assert_eq!(found, Some(targeted));
        for (name, text) in metrics {
            assert!(Query::parse(&text).is_ok(), "{name}: {text}");
        }
    };
    check("deviceContent", "*", "select deviceId from devices");
    check("deviceContent", "", "select deviceId from devices where false");
    check("moduleContent", "", "select deviceId, moduleId from devices.modules where false");
    check(
        "moduleContent",
        "from devices.modules  where tags.a='where'",
        "select deviceId, moduleId from devices.modules where tags.a = 'where'",
    );
    check("modulesContent", "*", "select deviceId from devices where capabilities.iotEdge = true");
    check(
        "modulesContent",
        "tags.a=1 OR tags.b=2",
        "select deviceId from devices where capabilities.iotEdge = true and (tags.a = 1 OR tags.b = 2)",
    );
    assert!(!Condition::parse("false").expect("a condition").is_everything());
}

#[test]
fn content_changes_only_where_that_is_allowed() {
    let before = Configuration::create(spec("cfg-a", example()).expect("valid"), at(1));
    let relabelled = spec("cfg-a", changed("/labels", json!({}))).expect("valid");
    let after = before.update(relabelled, false, at(2)).expect("labels may change");
    assert_eq!((after.etag().as_str(), before.etag().as_str()), ("Mg==", "MQ=="));
    assert_eq!((after.revision().created, after.revision().updated), (at(1), at(2)));
    assert_eq!(after.by(), before.by(), "twins need not be written again");
    let rewritten = changed("/content/deviceContent", json!({"properties.desired.mode": "off"}));
    let rewritten = spec("cfg-a", rewritten).expect("valid");
    let error = before.update(rewritten.clone(), false, at(2)).expect_err("immutable");
    assert_eq!(error.problem, Problem::ImmutableContent);
    let after = before.update(rewritten, true, at(2)).expect("allowed");
    assert_ne!(after.by(), before.by());
    let other = spec("cfg-a", json!({"content": {"modulesContent": {}}})).expect("valid");
    let error = before.update(other, true, at(2)).expect_err("another kind").to_string();
    assert!(error.contains("deviceContent and cannot become modulesContent"), "{error}");
}

#[test]
fn sections_can_be_written_by_hand() {
    let content = json!({"modulesContent": {
        "$edgeAgent": {"properties.desired": {"modules": {"m": {"type": "docker"}}}},
        "m": {"properties.desired.a.b": 1, "properties.desired.c": null},
    }});
    let Content::Edge(sections) = Content::parse(&content).expect("valid") else { panic!("edge content") };
    let writes = sections.values().map(|section| {
        let (update, mode) = section.to_write();
        (Value::Object(update.desired.expect("desired").object().clone()), mode)
    });
    use crate::twin::WriteMode::{Patch, Replace};
    let expected = [
        (json!({"modules": {"m": {"type": "docker"}}}), Replace),
        (json!({"a": {"b": 1}, "c": null}), Patch),
    ];
    assert_eq!(writes.collect::<Vec<_>>(), expected);
}
