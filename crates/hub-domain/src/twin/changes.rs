//! What a change did to a twin, value by value: the before and after of every path that is not as it was.
//!
//! A section is the set of its leaves: everything that is not an object, and objects without properties. So a change is
//! what differs between two sets, and taking its `after` values over into the old one gives the new one, and vice versa.

use serde_json::Value;

use super::{Metadata, Properties, Twin, TwinChange};
use crate::actor::Actor;
use crate::id::ConfigurationId;
use crate::json::Object;
use crate::limits::{EVENT_CHANGES_MAX, EVENT_CHANGES_PATH_BYTES_MAX};

/// One leaf that is not as it was.
#[derive(Clone, Debug, PartialEq)]
pub struct PathChange {
    /// Where, from the root of the twin, such as `tags.site` or `properties.desired.rate`.
    pub path: String,
    /// What was there; `None` if there was nothing.
    pub before: Option<Value>,
    /// What is there; `None` if there is nothing any more.
    pub after: Option<Value>,
    /// Of a change by configurations: the one that wrote this value, or that took it away.
    pub configuration: Option<ConfigurationId>,
}

/// All that a change did, up to a limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PathChanges {
    /// Path by path; a path that was written with the value that it had is not in it.
    pub paths: Vec<PathChange>,
    /// Whether there are more than fit, [`EVENT_CHANGES_MAX`] or [`EVENT_CHANGES_PATH_BYTES_MAX`].
    pub more: bool,
}

impl PathChanges {
    /// What `change` did to the twin that was `before` and is `after`. Costs what the patch costs, not the twin.
    pub fn of(change: &TwinChange, before: &Twin, after: &Twin) -> Self {
        let mut walk = Walk { path: String::new(), path_bytes: 0, changes: Self::default() };
        let sections = [
            ("tags", &change.tags, &before.tags, &after.tags),
            ("properties.desired", &change.desired, &before.desired.values, &after.desired.values),
            ("properties.reported", &change.reported, &before.reported.values, &after.reported.values),
        ];
        for (name, patch, before, after) in sections {
            if let Some(patch) = patch {
                walk.path.replace_range(.., name);
                walk.keys(Some(patch), Some(before), Some(after));
            }
        }
        walk.changes
    }

    /// Notes for each path of the desired section which configuration changed it, and says by whom the whole was: the
    /// configuration if it was a single one, or else the hub. For changes that configurations made.
    pub fn attribute(&mut self, before: &Properties, after: &Properties) -> Actor {
        for change in &mut self.paths {
            let metadata = if change.after.is_some() { &after.metadata } else { &before.metadata };
            let node = change.path.strip_prefix("properties.desired.").and_then(|path| find(metadata, path));
            let by = node.and_then(|node| node.stamp.by.as_ref());
            change.configuration = by.map(|by| by.configuration().clone());
        }
        let mut all = self.paths.iter().map(|change| &change.configuration);
        match all.next() {
            Some(Some(first)) if !self.more && all.all(|other| other.as_ref() == Some(first)) => {
                Actor::Configuration(first.clone())
            }
            _ => Actor::Hub,
        }
    }
}

fn find<'a>(metadata: &'a Metadata, path: &str) -> Option<&'a Metadata> {
    path.split('.').try_fold(metadata, |node, key| node.children.get(key))
}

/// Goes down both sides at once; `path` is where it is.
struct Walk {
    path: String,
    path_bytes: usize,
    changes: PathChanges,
}

impl Walk {
    /// Compares the properties of two objects: those that the patch names, or without one, all of them.
    fn keys(&mut self, patch: Option<&Object>, before: Option<&Object>, after: Option<&Object>) {
        let length = self.path.len();
        let mut each = |key: &str, patch: Option<&Object>| {
            if self.changes.more {
                return;
            }
            self.path.push('.');
            self.path.push_str(key);
            self.value(
                patch,
                before.and_then(|object| object.get(key)),
                after.and_then(|object| object.get(key)),
            );
            self.path.truncate(length);
        };
        if let Some(patch) = patch {
            patch.iter().for_each(|(key, value)| each(key, value.as_object()));
            return;
        }
        let known = |key: &String| before.is_some_and(|before| before.contains_key(key));
        before.into_iter().flat_map(Object::keys).for_each(|key| each(key, None));
        let new = after.into_iter().flat_map(Object::keys).filter(|key| !known(key));
        new.for_each(|key| each(key, None));
    }

    fn value(&mut self, patch: Option<&Object>, before: Option<&Value>, after: Option<&Value>) {
        self.leaf(before.filter(|value| is_leaf(value)), after.filter(|value| is_leaf(value)));
        let (before, after) = (before.and_then(Value::as_object), after.and_then(Value::as_object));
        // A patch tells what may differ only where it was merged into an object.
        let patch = patch.filter(|_| before.is_some() && after.is_some());
        if patch.is_some() || before.is_some() || after.is_some() {
            self.keys(patch, before, after);
        }
    }

    fn leaf(&mut self, before: Option<&Value>, after: Option<&Value>) {
        if before == after {
            return;
        }
        self.path_bytes += self.path.len();
        let changes = &mut self.changes;
        if changes.paths.len() == EVENT_CHANGES_MAX || self.path_bytes > EVENT_CHANGES_PATH_BYTES_MAX {
            changes.more = true;
            return;
        }
        changes.paths.push(PathChange {
            path: self.path.clone(),
            before: before.cloned(),
            after: after.cloned(),
            configuration: None,
        });
    }
}

fn is_leaf(value: &Value) -> bool {
    value.as_object().is_none_or(Object::is_empty)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::time::Timestamp;
    use crate::twin::{Stamp, TwinPatch, TwinUpdate, WriteMode, WrittenBy};
    use crate::version::Precondition;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn patch(value: Value) -> Option<TwinPatch> {
        Some(TwinPatch::from_value(value).expect("a valid patch"))
    }

    fn wrote(twin: &Twin, tags: Value, desired: Value, mode: WriteMode) -> (Twin, PathChanges) {
        let update = TwinUpdate { tags: patch(tags), desired: patch(desired) };
        let (after, change) = twin.update(&update, mode, &Precondition::None, at(2)).expect("fits");
        let changes = PathChanges::of(&change, twin, &after);
        (after, changes)
    }

    fn shown(changes: &PathChanges) -> Value {
        let each = |change: &PathChange| json!([change.path, change.before, change.after]);
        changes.paths.iter().map(each).collect()
    }

    #[test]
    fn each_leaf_that_differs_is_told() {
        let check = |mode, before: Value, patch: Value, expected: Value| {
            let (twin, _) = wrote(&Twin::new(at(1)), before.clone(), json!({}), WriteMode::Replace);
            let (_, changes) = wrote(&twin, patch.clone(), json!({}), mode);
            assert_eq!(shown(&changes), expected, "{before} {mode:?} {patch}");
            assert!(!changes.more);
        };
        let merge = WriteMode::Patch;
        check(merge, json!({}), json!({"a": 1}), json!([["tags.a", null, 1]]));
        check(merge, json!({"a": 1, "b": 2}), json!({"a": 2}), json!([["tags.a", 1, 2]]));
        check(merge, json!({"a": 1, "b": 2}), json!({"a": null}), json!([["tags.a", 1, null]]));
        check(merge, json!({"a": 1}), json!({"a": 1, "x": null}), json!([]));
        check(merge, json!({"a": [1]}), json!({"a": [1, 2]}), json!([["tags.a", [1], [1, 2]]]));
        let nested = json!({"a": {"b": {"c": 1, "d": 2}, "e": 3}});
        check(merge, nested.clone(), json!({"a": {"b": {"c": 5}}}), json!([["tags.a.b.c", 1, 5]]));
        let gone = json!([["tags.a.b.c", 1, null], ["tags.a.b.d", 2, null]]);
        check(merge, nested.clone(), json!({"a": {"b": null}}), gone);
        let new = json!([["tags.f.g", null, 1], ["tags.f.h", null, {}]]);
        check(merge, nested.clone(), json!({"f": {"g": 1, "h": {}}}), new);
        let narrowed = json!([["tags.a.b", null, 7], ["tags.a.b.c", 1, null], ["tags.a.b.d", 2, null]]);
        check(merge, nested.clone(), json!({"a": {"b": 7}}), narrowed);
        let emptied = json!([["tags.a", null, {}], ["tags.a.b", 1, null]]);
        check(merge, json!({"a": {"b": 1}}), json!({"a": {"b": null}}), emptied);
        let replaced = json!([["tags.a.e", 3, 4]]);
        check(WriteMode::Replace, nested, json!({"a": {"b": {"c": 1, "d": 2}, "e": 4}}), replaced);
    }

    #[test]
    fn each_section_has_its_root() {
        let (twin, changes) =
            wrote(&Twin::new(at(1)), json!({"a": 1}), json!({"rate": {"x": 2}}), WriteMode::Patch);
        assert_eq!(shown(&changes), json!([["tags.a", null, 1], ["properties.desired.rate.x", null, 2]]));
        let reported = patch(json!({"on": true})).expect("a patch");
        let (after, change) = twin.patch_reported(&reported, None, at(3)).expect("fits");
        let changes = PathChanges::of(&change, &twin, &after);
        assert_eq!(shown(&changes), json!([["properties.reported.on", null, true]]));
    }

    #[test]
    fn there_is_an_end_to_what_is_told() {
        let many = |count: usize| (0..count).map(|n| (format!("k{n}"), json!(n))).collect::<Object>();
        let changes = |value: Value| wrote(&Twin::new(at(1)), json!({}), value, WriteMode::Patch).1;
        let full = changes(Value::Object(many(EVENT_CHANGES_MAX)));
        assert_eq!((full.paths.len(), full.more), (EVENT_CHANGES_MAX, false));
        let over = changes(Value::Object(many(EVENT_CHANGES_MAX + 1)));
        assert_eq!((over.paths.len(), over.more), (EVENT_CHANGES_MAX, true));
        let deep = (0..8).fold(Value::Object(many(100)), |inner, _| json!({ "k".repeat(1024): inner }));
        let deep = changes(deep);
        let bytes: usize = deep.paths.iter().map(|change| change.path.len()).sum();
        assert!(deep.more && !deep.paths.is_empty() && bytes <= EVENT_CHANGES_PATH_BYTES_MAX, "{bytes}");
    }

    #[test]
    fn configurations_sign_what_they_wrote_and_what_they_took_away() {
        let id = |name: &str| ConfigurationId::parse(name).expect("valid");
        let by = |properties: &mut Properties, key: &str, name: &str| {
            let node = properties.metadata.children.get_mut(key).expect("there");
            node.stamp = Stamp { by: Some(WrittenBy::new(id(name), 1, false)), ..node.stamp.clone() };
        };
        let (mut old, _) = wrote(&Twin::new(at(1)), json!({}), json!({"a": 1, "b": 1}), WriteMode::Patch);
        by(&mut old.desired, "a", "first");
        by(&mut old.desired, "b", "first");
        let check = |value: Value, writers: &[(&str, &str)], expected: &[&str], actor: Actor| {
            let (mut new, mut changes) = wrote(&old, json!({}), value.clone(), WriteMode::Patch);
            for (key, name) in writers {
                by(&mut new.desired, key, name);
            }
            assert_eq!(changes.attribute(&old.desired, &new.desired), actor, "{value}");
            let signed: Vec<_> =
                changes.paths.iter().filter_map(|change| change.configuration.clone()).collect();
            assert_eq!(signed, expected.iter().map(|name| id(name)).collect::<Vec<_>>(), "{value}");
        };
        let (first, second) = (Actor::Configuration(id("first")), Actor::Configuration(id("second")));
        check(json!({"a": 2}), &[("a", "second")], &["second"], second);
        check(json!({"a": null, "b": null}), &[], &["first", "first"], first);
        check(json!({"a": null, "b": 2}), &[("b", "second")], &["first", "second"], Actor::Hub);
        check(json!({"c": 1, "a": null}), &[], &["first"], Actor::Hub);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), (0..3).prop_map(Value::from), Just(json!([1]))];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
        })
    }

    fn any_object() -> impl Strategy<Value = Value> {
        prop::collection::btree_map("[a-c]", any_value(), 0..4)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    /// A section as the set of its leaves.
    fn leaves(path: &str, object: &Object, found: &mut BTreeMap<String, Value>) {
        for (key, value) in object {
            let path = format!("{path}.{key}");
            match value {
                Value::Object(inner) if !inner.is_empty() => leaves(&path, inner, found),
                leaf => {
                    found.insert(path, leaf.clone());
                }
            }
        }
    }

    fn all_leaves(twin: &Twin) -> BTreeMap<String, Value> {
        let mut found = BTreeMap::new();
        leaves("tags", &twin.tags, &mut found);
        leaves("properties.desired", &twin.desired.values, &mut found);
        found
    }

    proptest! {
        #[test]
        fn changes_lead_from_before_to_after_and_back(
            old in (any_object(), any_object()),
            new in (any_object(), any_object()),
            replaces in any::<bool>(),
        ) {
            let mode = if replaces { WriteMode::Replace } else { WriteMode::Patch };
            let (before, _) = wrote(&Twin::new(at(1)), old.0, old.1, WriteMode::Replace);
            let (after, changes) = wrote(&before, new.0, new.1, mode);
            let (mut forth, mut back) = (all_leaves(&before), all_leaves(&after));
            for PathChange { path, before, after, .. } in changes.paths {
                prop_assert_ne!(&before, &after);
                prop_assert_eq!(forth.get(&path), before.as_ref());
                let take = |leaves: &mut BTreeMap<String, Value>, value: Option<Value>| match value {
                    Some(value) => leaves.insert(path.clone(), value),
                    None => leaves.remove(&path),
                };
                take(&mut forth, after);
                take(&mut back, before);
            }
            prop_assert_eq!(forth, all_leaves(&after));
            prop_assert_eq!(back, all_leaves(&before));
        }
    }
}
