//! What holds of all configurations: their order means nothing, applying settles, leaving leaves nothing behind.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::json::Object;
use crate::twin::{Metadata, Properties, Stamp};

/// A path of up to three names out of few, so that paths meet.
fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec("[a-c]", 1..4).prop_map(|names| names.join("."))
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (0..4).prop_map(Value::from),
        1 => Just(Value::Null),
        1 => Just(json!({})),
        1 => Just(json!([1])),
    ]
}

/// Up to six configurations of one kind of content, with few priorities and ages, so that they tie.
fn any_configurations() -> impl Strategy<Value = Vec<Configuration>> {
    let one = (prop::collection::btree_map(any_path(), any_value(), 0..5), 0..3_u32, 0..2_i64);
    prop::collection::vec(one, 0..6).prop_map(|specs| {
        let build = |(number, (leaves, priority, created)): (usize, (BTreeMap<String, Value>, u32, i64))| {
            let mut content = BTreeMap::new();
            for (path, value) in leaves {
                let overlaps = |other: &String| {
                    format!("{path}.").starts_with(&format!("{other}."))
                        || format!("{other}.").starts_with(&format!("{path}."))
                };
                if !content.keys().any(overlaps) {
                    content.insert(path, value);
                }
            }
            let content: Value = content
                .into_iter()
                .map(|(path, value)| (format!("properties.desired.{path}"), value))
                .collect();
            device(&format!("c{number}"), priority, created, content)
        };
        specs.into_iter().enumerate().map(build).collect()
    })
}

/// A twin whose desired properties a person wrote: leaves at these paths, where later ones win.
fn any_twin() -> impl Strategy<Value = Twin> {
    prop::collection::vec((any_path(), 10..14), 0..6).prop_map(|leaves| {
        let mut twin = Twin::new(at(0));
        for (path, value) in leaves {
            let patch = path.rsplit('.').fold(json!(value), |inner, name| json!({ name: inner }));
            let stamp = Stamp::desired(at(1), twin.desired.version + 1);
            twin.desired.merge(patch.as_object().expect("an object"), &stamp);
        }
        twin
    })
}

fn refs(configurations: &[Configuration]) -> Vec<&Configuration> {
    configurations.iter().collect()
}

fn apply(twin: &Twin, matching: &[&Configuration]) -> Twin {
    let applied = twin.apply(&resolve(None, matching), at(9)).expect("small enough");
    applied.map_or_else(|| twin.clone(), |(twin, _)| twin)
}

/// Path, value and owner of everything that is not an object with properties.
fn leaves(properties: &Properties) -> BTreeMap<String, (Value, Option<String>)> {
    fn collect(
        values: &Object,
        node: &Metadata,
        path: &str,
        leaves: &mut BTreeMap<String, (Value, Option<String>)>,
    ) {
        for (name, value) in values {
            let node = &node.children[name];
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match value {
                Value::Object(inner) if !inner.is_empty() => {
                    assert_eq!(node.stamp.by, None, "objects with properties have no owner");
                    collect(inner, node, &path, leaves);
                }
                value => {
                    assert!(node.children.is_empty(), "metadata mirrors the values");
                    let by = node.stamp.by.as_ref().map(|by| by.configuration().to_string());
                    leaves.insert(path, (value.clone(), by));
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    collect(&properties.values, &properties.metadata, "", &mut found);
    found
}

fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.starts_with('.'))
}

/// Whether what a person set at `path` survives a setting at `at`.
fn survives(path: &str, at: &str, value: &Value) -> bool {
    if path == at {
        return false;
    }
    if is_below(path, at) {
        return *value == json!({});
    }
    !is_below(at, path) || value.is_null()
}

proptest! {
    #[test]
    fn the_order_of_configurations_means_nothing(
        (configurations, shuffled) in any_configurations()
            .prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        prop_assert_eq!(resolve(None, &refs(&configurations)), resolve(None, &refs(&shuffled)));
    }

    #[test]
    fn every_setting_wins_or_is_overridden(configurations in any_configurations()) {
        let resolution = resolve(None, &refs(&configurations));
        let settings: usize = configurations.iter().map(|one| match &one.spec().content {
            Content::Device(section) => section.leaves().len(),
            _ => 0,
        }).sum();
        prop_assert_eq!(resolution.settings.len() + resolution.overridden.len(), settings);
        let paths: Vec<_> = resolution.settings.keys().map(LeafPath::as_str).collect();
        prop_assert!(paths.windows(2).all(|pair| !is_below(pair[1], pair[0])));
        for (id, status) in &resolution.statuses {
            let wins = resolution.settings.values().any(|setting| setting.by.configuration() == id);
            prop_assert_eq!(wins, *status == crate::twin::ConfigurationStatus::Applied);
        }
    }

    #[test]
    fn applying_settles_with_every_setting_in_force(
        twin in any_twin(),
        first in any_configurations(),
        second in any_configurations(),
    ) {
        let before = apply(&twin, &refs(&first));
        let resolution = resolve(None, &refs(&second));
        let after = apply(&before, &refs(&second));
        prop_assert_eq!(after.apply(&resolution, at(10)), Ok(None));
        let leaves = leaves(&after.desired);
        for (path, setting) in &resolution.settings {
            let owner = Some(setting.by.configuration().to_string());
            match &*setting.value {
                Value::Null => prop_assert!(
                    !leaves.keys().any(|leaf| leaf == path.as_str() || is_below(leaf, path.as_str()))
                ),
                Value::Object(_) if leaves.keys().any(|leaf| is_below(leaf, path.as_str())) => {}
                value => prop_assert_eq!(leaves.get(path.as_str()), Some(&(value.clone(), owner))),
            }
        }
        for (path, (_, owner)) in &leaves {
            if owner.is_some() {
                prop_assert!(resolution.settings.contains_key(path.as_str()), "{} is nobody's", path);
            }
        }
    }

    #[test]
    fn the_device_is_told_what_brings_it_there(
        twin in any_twin(),
        first in any_configurations(),
        second in any_configurations(),
    ) {
        let before = apply(&twin, &refs(&first));
        let mut device = before.desired.clone();
        let applied = before.apply(&resolve(None, &refs(&second)), at(9)).expect("small enough");
        if let Some((after, change)) = applied {
            if let Some(patch) = change.desired {
                prop_assert!(!patch.is_empty());
                device.merge(&patch, &Stamp::desired(at(9), 9));
            }
            prop_assert_eq!(device.values, after.desired.values);
        }
    }

    #[test]
    fn leaving_takes_what_configurations_wrote_and_nothing_else(
        twin in any_twin(),
        configurations in any_configurations(),
    ) {
        let resolution = resolve(None, &refs(&configurations));
        let left = apply(&apply(&twin, &refs(&configurations)), &[]);
        prop_assert!(left.configurations.is_empty());
        let mut expected = leaves(&twin.desired);
        expected.retain(|path, _| {
            resolution.settings.iter().all(|(at, setting)| survives(path, at.as_str(), &setting.value))
        });
        let mut found = leaves(&left.desired);
        // What a null deleted may leave the object around it empty.
        found.retain(|_, (value, _)| *value != json!({}));
        prop_assert_eq!(found, expected);
    }
}
