//! Tables and properties of the twin's transitions.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn object(value: Value) -> Object {
    value.as_object().expect("an object").clone()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn patch(value: Value) -> TwinPatch {
    TwinPatch::from_value(value).expect("a valid patch")
}

fn desired(value: Value) -> TwinUpdate {
    TwinUpdate { tags: None, desired: Some(patch(value)) }
}

#[test]
fn merges_are_rfc_7396() {
    let check = |before: Value, change: Value, after: Value| {
        let mut properties = Properties::new(Stamp::reported(at(0)));
        properties.replace(&object(before.clone()), &Stamp::reported(at(1)));
        properties.merge(patch(change.clone()).object(), &Stamp::reported(at(2)));
        assert_eq!(Value::Object(properties.values.clone()), after, "{before} + {change}");
        let mut tags = object(before);
        merge(&mut tags, &object(change));
        assert_eq!(Value::Object(tags), after);
    };
    check(json!({}), json!({"a": 1}), json!({"a": 1}));
    check(json!({"a": 1}), json!({"a": null}), json!({}));
    check(json!({"a": 1}), json!({"b": null}), json!({"a": 1}));
    check(json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": null, "d": 3}}), json!({"a": {"c": 2, "d": 3}}));
    check(json!({"a": 1}), json!({"a": {"b": null}}), json!({"a": {}}));
    check(json!({}), json!({"a": {"b": {"c": null, "d": 1}}}), json!({"a": {"b": {"d": 1}}}));
    check(json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]}));
    check(json!({"a": {"b": 1}}), json!({"a": 2}), json!({"a": 2}));
    check(json!({"a": {"b": 1}}), json!({}), json!({"a": {"b": 1}}));
}

#[test]
fn versions_and_etags_count_as_the_service_does() {
    let twin = Twin::new(at(1));
    assert_eq!((twin.version(), twin.etag().as_str()), (2, "AAAAAAAAAAE="));
    let both = TwinUpdate { tags: Some(patch(json!({"site": "a"}))), ..desired(json!({"rate": 5})) };
    let (twin, change) = twin.update(&both, WriteMode::Patch, &Precondition::None, at(2)).expect("updated");
    assert_eq!((twin.version(), twin.desired.version, twin.reported.version), (3, 2, 1));
    assert_eq!(twin.etag().as_str(), "AAAAAAAAAAI=");
    assert!(change.tags.is_some() && change.desired.is_some() && change.reported.is_none());
    let (twin, _) = twin.patch_reported(&patch(json!({"fw": "1"})), None, at(3)).expect("reported");
    assert_eq!((twin.version(), twin.reported.version, twin.etag().as_str()), (4, 2, "AAAAAAAAAAI="));
    let tags = TwinUpdate { tags: Some(patch(json!({"site": null}))), desired: None };
    let (twin, _) = twin.update(&tags, WriteMode::Patch, &Precondition::None, at(4)).expect("tags");
    assert_eq!((twin.desired.version, twin.tags.len()), (2, 0));
}

#[test]
fn metadata_follows_the_values() {
    let (twin, _) = Twin::new(at(1))
        .update(
            &desired(json!({"a": {"b": 1, "c": 2}, "d": [1]})),
            WriteMode::Patch,
            &Precondition::None,
            at(2),
        )
        .expect("first");
    let (twin, _) = twin
        .update(&desired(json!({"a": {"b": null, "c": 3}})), WriteMode::Patch, &Precondition::None, at(3))
        .expect("second");
    let stamp = |seconds: i64, version: u64| (at(seconds).to_string(), version);
    let metadata = Value::Object(twin.desired.metadata.to_json());
    let check = |pointer: &str, (time, version): (String, u64)| {
        let node = metadata.pointer(pointer).expect(pointer);
        assert_eq!(
            (&node["$lastUpdated"], &node["$lastUpdatedVersion"]),
            (&json!(time), &json!(version)),
            "{pointer}"
        );
    };
    check("", stamp(3, 3));
    check("/a", stamp(3, 3));
    check("/a/c", stamp(3, 3));
    check("/d", stamp(2, 2));
    assert!(metadata.pointer("/a/b").is_none());
    assert!(twin.reported.metadata.to_json().get("$lastUpdatedVersion").is_none());
}

#[test]
fn a_replacement_tells_what_is_gone() {
    let (twin, _) = Twin::new(at(1))
        .update(&desired(json!({"a": 1, "b": {"c": 1}})), WriteMode::Patch, &Precondition::None, at(2))
        .expect("first");
    let (twin, change) = twin
        .update(&desired(json!({"b": {"d": 2}})), WriteMode::Replace, &Precondition::None, at(3))
        .expect("second");
    assert_eq!(Value::Object(twin.desired.values.clone()), json!({"b": {"d": 2}}));
    assert_eq!(change.desired.as_deref(), Some(&object(json!({"a": null, "b": {"c": null, "d": 2}}))));
}

#[test]
fn refusals_leave_nothing_behind() {
    let twin = Twin::new(at(1));
    let stale = Precondition::parse(Some("\"AAAAAAAAAAA=\""));
    assert_eq!(
        twin.update(&desired(json!({"a": 1})), WriteMode::Patch, &stale, at(2)).expect_err("stale"),
        TwinError::Precondition
    );
    assert_eq!(
        twin.patch_reported(&patch(json!({})), Some(7), at(2)).expect_err("version"),
        TwinError::Precondition
    );
    let large: Object = (0..9).map(|n| (format!("k{n}"), json!("x".repeat(4096)))).collect();
    for error in [
        twin.update(&desired(Value::Object(large.clone())), WriteMode::Patch, &Precondition::None, at(2))
            .expect_err("desired"),
        twin.patch_reported(&patch(Value::Object(large.clone())), None, at(2)).expect_err("reported"),
    ] {
        assert!(matches!(error, TwinError::TooLarge { bytes_max: 32768, .. }), "{error}");
    }
    let tags =
        TwinUpdate { tags: Some(patch(Value::Object(large.into_iter().take(3).collect()))), desired: None };
    let error = twin.update(&tags, WriteMode::Replace, &Precondition::None, at(2)).expect_err("tags");
    assert_eq!(error.to_string(), "tags would have 12294 bytes, at most 8192 are allowed");
}

#[test]
fn echoed_version_and_metadata_are_dropped_others_refused() {
    let echoed = patch(json!({"$version": 3, "$metadata": {"$lastUpdated": "x"}, "a": 1}));
    assert_eq!(Value::Object(echoed.object().clone()), json!({"a": 1}));
    assert!(TwinPatch::from_value(json!({"a": {"$version": 1}})).is_err());
    assert!(TwinPatch::from_value(json!([1])).expect_err("array").to_string().contains("an array"));
}

/// A twin in which a configuration wrote `a.b` and `d`, and which two match.
fn configured() -> Twin {
    let (mut twin, _) = Twin::new(at(1))
        .update(
            &desired(json!({"a": {"b": 1, "c": 2}, "d": 3})),
            WriteMode::Patch,
            &Precondition::None,
            at(2),
        )
        .expect("values");
    let id = |text| ConfigurationId::parse(text).expect("an id");
    let by = Some(WrittenBy::new(id("cfg-a"), 638_993, false));
    let children = &mut twin.desired.metadata.children;
    children.get_mut("a").and_then(|a| a.children.get_mut("b")).expect("a.b").stamp.by = by.clone();
    children.get_mut("d").expect("d").stamp.by = by;
    twin.configurations.insert(id("cfg-a"), ConfigurationStatus::Applied);
    twin.configurations.insert(id("cfg-b"), ConfigurationStatus::Targeted);
    twin
}

#[test]
fn a_write_by_anybody_else_takes_the_leaves_it_touches_from_their_configuration() {
    let owners = |twin: &Twin| {
        let metadata = Value::Object(twin.desired.metadata.to_json());
        ["/a/b", "/d"]
            .map(|path| metadata.pointer(path).is_some_and(|node| node["$lastUpdatedBy"] == "cfg-a"))
    };
    let check = |change: Value, mode: WriteMode, expected: [bool; 2]| {
        let (twin, _) =
            configured().update(&desired(change.clone()), mode, &Precondition::None, at(3)).expect("a write");
        assert_eq!(owners(&twin), expected, "{change}");
    };
    assert_eq!(owners(&configured()), [true, true]);
    check(json!({"x": 1}), WriteMode::Patch, [true, true]);
    check(json!({"a": {"c": 1}}), WriteMode::Patch, [true, true]);
    check(json!({"a": {"b": 1}}), WriteMode::Patch, [false, true]);
    check(json!({"a": 5}), WriteMode::Patch, [false, true]);
    check(json!({"d": {"e": 1}}), WriteMode::Patch, [true, false]);
    check(json!({"d": {}}), WriteMode::Patch, [true, false]);
    check(json!({"a": {"b": 1, "c": 2}, "d": 3}), WriteMode::Replace, [false, false]);
}

#[test]
fn documents_and_queries_show_configurations() {
    let authentication = crate::identity::Authentication::None;
    let identity = crate::identity::Identity {
        id: crate::id::TwinId::parse("d", None).expect("an id"),
        generation: "1".into(),
        etag_counter: 1,
        status: crate::identity::Status::Enabled,
        status_reason: None,
        status_updated: Timestamp::NEVER,
        authentication,
        managed_by: None,
        edge: false,
        device_scope: None,
        parent_scopes: Vec::new(),
    };
    let (twin, plain) = (configured(), Twin::new(at(1)));
    let row = TwinDocument { identity: &identity, twin: &twin, connection: Connection::NEVER };
    let document = row.to_json();
    assert_eq!(
        document["configurations"],
        json!({"cfg-a": {"status": "Applied"}, "cfg-b": {"status": "Targeted"}})
    );
    let leaf = &document["properties"]["desired"]["$metadata"]["a"]["b"];
    assert_eq!(leaf["$lastUpdatedByDigest"], "638993");
    let bare = TwinDocument { twin: &plain, ..row };
    assert!(bare.to_json().get("configurations").is_none());
    for (condition, expected) in [
        ("configurations.[[cfg-a]].status = 'Applied'", true),
        ("configurations.[[cfg-b]].Status = 'Targeted'", true),
        ("configurations.[[cfg-b]].status = 'Applied'", false),
        ("configurations.[[cfg-c]].status != 'Applied'", false),
        ("is_defined(configurations.[[cfg-a]])", true),
        ("is_defined(configurations)", true),
        ("properties.desired.$metadata.a.b.$lastUpdatedBy = 'cfg-a'", true),
        ("properties.desired.$metadata.d.$lastUpdatedByDigest = '638993'", true),
        ("is_defined(properties.desired.$metadata.a.$lastUpdatedBy)", false),
    ] {
        let condition = crate::query::Condition::parse(condition).expect(condition);
        assert_eq!(condition.matches(&row), expected, "{condition}");
        assert!(!condition.matches(&bare), "{condition}");
        // The short cut and the document say the same.
        assert_eq!(condition.matches(&crate::query::Document(&document)), expected, "{condition}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-1000i64..1000).prop_map(Value::from),
        "[a-z]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop::collection::btree_map("[a-c]", inner, 0..4)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    })
}

pub(super) fn any_object() -> impl Strategy<Value = Object> {
    prop::collection::btree_map("[a-c]", any_json(), 0..4).prop_map(|map| map.into_iter().collect())
}

fn mirrors(values: &Object, metadata: &Metadata) -> bool {
    values.len() == metadata.children.len()
        && values.iter().all(|(key, value)| match (metadata.children.get(key), value) {
            (None, _) => false,
            (Some(child), Value::Object(inner)) => mirrors(inner, child),
            (Some(child), _) => child.children.is_empty(),
        })
}

proptest! {
    #[test]
    fn merging_twice_is_merging_once(before in any_object(), change in any_object()) {
        let stamp = Stamp::desired(at(5), 9);
        let mut once = Properties::new(Stamp::desired(at(1), 1));
        once.replace(&before, &stamp);
        once.merge(&change, &stamp);
        let mut twice = once.clone();
        twice.merge(&change, &stamp);
        prop_assert_eq!(&once.values, &twice.values);
        prop_assert_eq!(&once.metadata, &twice.metadata);
        prop_assert!(mirrors(&once.values, &once.metadata));
        let mut tags = without_nulls(&before);
        merge(&mut tags, &change);
        prop_assert_eq!(&tags, &once.values);
    }

    #[test]
    fn what_a_device_is_told_of_a_replacement_brings_it_there(before in any_object(), after in any_object()) {
        let (before, after) = (without_nulls(&before), without_nulls(&after));
        let mut device = before.clone();
        merge(&mut device, &replacement_patch(&before, &after));
        prop_assert_eq!(device, after);
    }
}
