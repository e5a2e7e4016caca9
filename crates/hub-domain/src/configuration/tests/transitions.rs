//! Tables of what configurations do to twins, rule by rule (S 8.3).

use serde_json::{Map, Value, json};

use super::*;
use crate::twin::{ConfigurationStatus, Metadata, TwinError, TwinPatch, TwinUpdate, WriteMode};
use crate::version::Precondition;

use ConfigurationStatus::{Applied, Targeted};

/// A twin to which things happen, one second after the other.
struct Story {
    twin: Twin,
    now: i64,
    module: Option<ModuleId>,
}

impl Story {
    fn of(module: Option<&str>) -> Self {
        Self { twin: Twin::new(at(0)), now: 0, module: module.map(super::module) }
    }

    fn device() -> Self {
        Self::of(None)
    }

    /// A person patches the desired properties.
    fn person(mut self, patch: Value) -> Self {
        self.now += 1;
        let update =
            TwinUpdate { tags: None, desired: Some(TwinPatch::from_value(patch).expect("a valid patch")) };
        let updated = self.twin.update(&update, WriteMode::Patch, &Precondition::None, at(self.now));
        self.twin = updated.expect("a write").0;
        self
    }

    /// Exactly these target it; `told` is what the device hears.
    fn matching(mut self, matching: &[&Configuration], told: Value) -> Self {
        self.now += 1;
        let resolution = resolve(self.module.as_ref(), matching);
        let applied = self.twin.apply(&resolution, at(self.now)).expect("small enough");
        let (before, heard) =
            (self.twin.clone(), applied.as_ref().and_then(|(_, change)| change.desired.clone()));
        if let Some((twin, change)) = applied {
            assert_eq!(twin.etag_counter, before.etag_counter + 1);
            assert_eq!(twin.desired.version, before.desired.version + u64::from(change.desired.is_some()));
            assert_eq!((change.mode, change.tags, change.reported), (WriteMode::Patch, None, None));
            self.twin = twin;
        }
        assert_eq!(heard.map_or(Value::Null, |patch| Value::Object(Map::clone(&patch))), told);
        assert_eq!(self.twin.apply(&resolution, at(self.now + 1)), Ok(None), "it is settled");
        self
    }

    fn holds(self, values: Value) -> Self {
        assert_eq!(Value::Object(self.twin.desired.values.clone()), values);
        self
    }

    /// Path and owner of each leaf that has one.
    fn owned(self, expected: &[(&str, &str)]) -> Self {
        fn collect(node: &Metadata, path: &str, owners: &mut Vec<(String, String)>) {
            if let Some(by) = &node.stamp.by {
                owners.push((path.to_owned(), by.configuration().to_string()));
            }
            for (name, child) in &node.children {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(child, &path, owners);
            }
        }
        let mut owners = Vec::new();
        collect(&self.twin.desired.metadata, "", &mut owners);
        let owners: Vec<_> = owners.iter().map(|(path, owner)| (path.as_str(), owner.as_str())).collect();
        assert_eq!(owners, expected);
        self
    }

    fn statuses(self, expected: &[(&str, ConfigurationStatus)]) -> Self {
        let found: Vec<_> =
            self.twin.configurations.iter().map(|(id, status)| (id.as_str(), *status)).collect();
        assert_eq!(found, expected);
        self
    }
}

#[test]
fn settings_are_merged_into_what_is_there() {
    let a = device(
        "a",
        1,
        0,
        json!({"properties.desired.chiller": {"t": 66, "p": 28}, "properties.desired.x": {}}),
    );
    let whole = device("w", 1, 0, json!({"properties.desired": {"chiller": {"t": 1}}}));
    Story::device()
        .person(json!({"chiller": {"fan": 1, "t": 5}, "mine": true}))
        .matching(&[&a], json!({"chiller": {"t": 66, "p": 28}, "x": {}}))
        .holds(json!({"chiller": {"fan": 1, "t": 66, "p": 28}, "mine": true, "x": {}}))
        .owned(&[("chiller.p", "a"), ("chiller.t", "a"), ("x", "a")])
        .statuses(&[("a", Applied)]);
    Story::device()
        .person(json!({"mine": true}))
        .matching(&[&whole], json!({"chiller": {"t": 1}}))
        .holds(json!({"mine": true, "chiller": {"t": 1}}));
}

#[test]
fn priority_decides_then_age_then_name() {
    let set =
        |name, priority, created| device(name, priority, created, json!({"properties.desired.p": name}));
    let check = |one: Configuration, other: Configuration, winner: &str| {
        for matching in [[&one, &other], [&other, &one]] {
            let resolution = resolve(None, &matching);
            let setting = resolution.settings.get("p").expect("somebody wins");
            assert_eq!(setting.by.configuration().as_str(), winner);
            let [overridden] = &resolution.overridden[..] else { panic!("one loses: {resolution:?}") };
            let at = overridden.path.clone();
            assert_eq!(overridden.loss, Loss::Outranked { by: id(winner), at });
            let statuses: Vec<_> = resolution.statuses.values().collect();
            assert!(statuses.contains(&&Applied) && statuses.contains(&&Targeted));
        }
    };
    check(set("a", 2, 0), set("b", 1, 9), "a");
    check(set("a", 1, 0), set("b", 1, 9), "b");
    check(set("b", 1, 0), set("a", 1, 0), "a");
}

#[test]
fn overlaps_are_won_whole_and_the_rest_applies() {
    let p = |path: &str| format!("properties.desired.{path}");
    let check = |high: (&str, Value), low: Value, settings: &[&str], lost: &[&str]| {
        let (high, low) = (device("h", 2, 0, json!({p(high.0): high.1})), device("l", 1, 0, low));
        let resolution = resolve(None, &[&low, &high]);
        let won: Vec<_> = resolution.settings.keys().map(LeafPath::as_str).collect();
        let losers: Vec<_> = resolution.overridden.iter().map(|lost| lost.path.as_str()).collect();
        assert_eq!((&won[..], &losers[..]), (settings, lost));
    };
    check(("a", json!(1)), json!({p("a"): {"b": 1, "c": 2}, p("d"): 3}), &["a", "d"], &["a.b", "a.c"]);
    check(("a", json!({"b": 1})), json!({p("a"): 5, p("d"): 3}), &["a.b", "d"], &["a"]);
    check(("a", json!({"b": 1})), json!({p("a"): {"b": 2, "c": 3}}), &["a.b", "a.c"], &["a.b"]);
    check(("a", Value::Null), json!({p("a"): {"b": 1}}), &["a"], &["a.b"]);
    check(("a", json!(1)), json!({p("ab"): 1, p("a-b"): 2}), &["a", "a-b", "ab"], &[]);
    check(("ab", json!(1)), json!({p("a"): 2}), &["a", "ab"], &[]);
    check(("a-b", json!(1)), json!({p("a"): 2}), &["a", "a-b"], &[]);
    check(("a.b", json!(1)), json!({p("a-b"): 2, p("a"): Value::Null}), &["a-b", "a.b"], &["a"]);
}

#[test]
fn leaving_lets_the_next_take_over_path_by_path() {
    let high = device("high", 2, 0, json!({"properties.desired": {"a": {"b": 1, "c": 2}, "only": 3}}));
    let low = device("low", 1, 0, json!({"properties.desired": {"a": {"b": 9}, "low": 4}}));
    Story::device()
        .person(json!({"mine": 1}))
        .matching(&[&high, &low], json!({"a": {"b": 1, "c": 2}, "only": 3, "low": 4}))
        .statuses(&[("high", Applied), ("low", Applied)])
        .owned(&[("a.b", "high"), ("a.c", "high"), ("low", "low"), ("only", "high")])
        .matching(&[&low], json!({"a": {"b": 9, "c": null}, "only": null}))
        .holds(json!({"mine": 1, "a": {"b": 9}, "low": 4}))
        .statuses(&[("low", Applied)])
        .matching(&[], json!({"a": null, "low": null}))
        .holds(json!({"mine": 1}))
        .owned(&[])
        .statuses(&[]);
}

#[test]
fn unchanged_values_are_owned_but_not_written() {
    let a = device("a", 2, 0, json!({"properties.desired.p": 1}));
    let b = device("b", 1, 0, json!({"properties.desired.p": 1}));
    let story = Story::device().person(json!({"p": 1}));
    let stamp = story.twin.desired.metadata.children["p"].stamp.clone();
    let story = story
        .matching(&[&a], Value::Null)
        .owned(&[("p", "a")])
        .statuses(&[("a", Applied)])
        .matching(&[&a, &b], Value::Null)
        .statuses(&[("a", Applied), ("b", Targeted)])
        .matching(&[&b], Value::Null)
        .owned(&[("p", "b")]);
    let now = &story.twin.desired.metadata.children["p"].stamp;
    assert_eq!((now.at, now.version), (stamp.at, stamp.version));
    story.matching(&[], json!({"p": null}));
}

#[test]
fn what_people_do_to_owned_properties() {
    let a = device("a", 1, 0, json!({"properties.desired": {"p": 1, "o": {"q": 2}}}));
    // It is overwritten as long as the configuration is there,
    Story::device()
        .matching(&[&a], json!({"p": 1, "o": {"q": 2}}))
        .person(json!({"p": 5, "o": null}))
        .owned(&[])
        .matching(&[&a], json!({"p": 1, "o": {"q": 2}}))
        // and stays if it is done before the configuration goes.
        .person(json!({"p": 5, "o": {"mine": 1}}))
        .owned(&[("o.q", "a")])
        .matching(&[], json!({"o": {"q": null}}))
        .holds(json!({"p": 5, "o": {"mine": 1}}));
}

#[test]
fn null_deletes_whoever_wrote_it() {
    let a =
        device("a", 2, 0, json!({"properties.desired": {"old": null, "o": {"p": null}, "s": {"t": null}}}));
    let b = device("b", 1, 0, json!({"properties.desired.old": 1}));
    Story::device()
        .person(json!({"old": {"x": 1}, "o": {"p": 1}, "s": 5}))
        .matching(&[&a, &b], json!({"old": null, "o": {"p": null}}))
        .holds(json!({"o": {}, "s": 5}))
        .statuses(&[("a", Applied), ("b", Targeted)])
        .matching(&[&b], json!({"old": 1}));
    // What a configuration wrote goes with the object that this empties, as when it leaves.
    let c = device("c", 1, 0, json!({"properties.desired.o.p": 1}));
    Story::device()
        .matching(&[&c], json!({"o": {"p": 1}}))
        .matching(&[&a, &c], json!({"o": null}))
        .holds(json!({}));
    // And where a deployment says what there is as a whole, nothing empty is left either.
    let whole = edge("whole", 1, json!({"$edgeAgent": {"properties.desired": {"q": 1}}}));
    let layer = edge("layer", 2, json!({"$edgeAgent": {"properties.desired.o.p": null}}));
    Story::of(Some("$edgeAgent"))
        .person(json!({"o": {"p": 1}}))
        .matching(&[&whole, &layer], json!({"o": null, "q": 1}));
}

#[test]
fn stamps_say_when_each_property_changed() {
    let a = device("a", 1, 0, json!({"properties.desired": {"o": {"p": 1}, "n": {"q": 1}}}));
    let b = device("b", 1, 0, json!({"properties.desired.n": {"q": 1}}));
    let stamps = |story: &Story| {
        let metadata = Value::Object(story.twin.desired.metadata.to_json());
        ["", "/o", "/o/p", "/o/mine", "/n", "/n/q"].map(|path| {
            metadata.pointer(path).and_then(|node| node["$lastUpdatedVersion"].as_u64()).unwrap_or_default()
        })
    };
    let story = Story::device().person(json!({"o": {"mine": 1}, "n": {}}));
    assert_eq!(stamps(&story), [2, 2, 0, 2, 2, 0]);
    let story = story.matching(&[&a], json!({"o": {"p": 1}, "n": {"q": 1}}));
    assert_eq!(stamps(&story), [3, 3, 3, 2, 3, 3]);
    let story = story.matching(&[&b], json!({"o": {"p": null}}));
    assert_eq!(stamps(&story), [4, 4, 0, 2, 3, 3]);
}

#[test]
fn an_empty_object_is_there_but_not_emptied() {
    let a = device("a", 1, 0, json!({"properties.desired.o": {}}));
    let b = device("b", 1, 0, json!({"properties.desired.o.p": 1}));
    Story::device()
        .matching(&[&b], json!({"o": {"p": 1}}))
        .matching(&[&a], json!({"o": {"p": null}}))
        .owned(&[("o", "a")])
        .person(json!({"o": {"mine": 1}}))
        .owned(&[])
        .matching(&[&a], Value::Null)
        .matching(&[], Value::Null)
        .holds(json!({"o": {"mine": 1}}));
}

#[test]
fn a_twin_that_would_be_too_large_stays_as_it_is() {
    let large: Value =
        (0..7).map(|n| (format!("properties.desired.k{n}"), json!("x".repeat(4096)))).collect();
    let a = device("a", 1, 0, large);
    let story = Story::device().person(json!({"m1": "x".repeat(4000), "m2": "x".repeat(4000)}));
    let error = story.twin.apply(&resolve(None, &[&a]), at(9)).expect_err("too large");
    assert!(matches!(error, TwinError::TooLarge { section: "desired", bytes_max: 32768, .. }), "{error}");
    Story::device().matching(&[&a], Value::Object(a_large_patch()));
}

fn a_large_patch() -> Map<String, Value> {
    (0..7).map(|n| (format!("k{n}"), json!("x".repeat(4096)))).collect()
}

fn standard(name: &str, priority: u32, tag: &str) -> Configuration {
    let content = json!({
        "$edgeAgent": {"properties.desired": {"modules": {"m": {"image": tag}}, "runtime": 1}},
        "$edgeHub": {"properties.desired": {"routes": {}}},
        "m": {"properties.desired": {"rate": tag}},
    });
    edge(name, priority, content)
}

#[test]
fn one_deployment_and_the_layers_above_it_are_merged() {
    let (base, other) = (standard("base", 10, "base"), standard("other", 9, "other"));
    let layer = |name, priority, created| {
        let content = json!({"modulesContent": {
            "$edgeAgent": {"properties.desired.modules": {"n": {"image": name}}},
            "m": {"properties.desired.rate": name, "properties.desired.extra": true},
        }});
        configuration(name, priority, created, content)
    };
    // Of the same priority is not above, though it is newer.
    let (above, equal, top) = (layer("above", 11, 0), layer("equal", 10, 9), layer("top", 12, 0));
    let matching = [&base, &other, &above, &equal];
    let agent = |image| json!({"modules": {"m": {"image": "base"}, "n": {"image": image}}, "runtime": 1});
    let story = Story::of(Some("$edgeAgent"))
        .person(json!({"by-hand": 1}))
        .matching(&matching, {
            let mut told = agent("above");
            told["by-hand"] = Value::Null;
            told
        })
        .holds(agent("above"))
        .statuses(&[("above", Applied), ("base", Applied), ("equal", Targeted), ("other", Targeted)]);
    // A higher layer wins its module; the status of the lower one comes from the rest of what it sets.
    story
        .matching(&[&base, &above, &top], json!({"modules": {"n": {"image": "top"}}}))
        .statuses(&[("above", Targeted), ("base", Applied), ("top", Applied)])
        .matching(&[&other], json!({"modules": {"m": {"image": "other"}, "n": null}}));
    Story::of(Some("m"))
        .person(json!({"by-hand": 1}))
        .matching(&matching, json!({"by-hand": null, "rate": "above", "extra": true}))
        .statuses(&[])
        .owned(&[("extra", "above"), ("rate", "above")]);
    // Who lost, and why.
    let resolution = resolve(Some(&module("m")), &matching);
    let losses: Vec<_> =
        resolution.overridden.iter().map(|lost| (lost.configuration.as_str(), lost.loss.clone())).collect();
    let replaced = || Loss::Replaced { by: id("base") };
    let at = resolution.settings.keys().find(|path| path.as_str() == "rate").expect("rate").clone();
    let outranked = Loss::Outranked { by: id("above"), at };
    let expected = [("equal", replaced()), ("equal", replaced()), ("base", outranked), ("other", replaced())];
    assert_eq!(losses, expected);
}

#[test]
fn without_a_deployment_the_modules_stay() {
    let (base, thin) =
        (standard("base", 1, "base"), edge("thin", 2, json!({"$edgeAgent": {"properties.desired": {}}})));
    let layer = edge("layer", 5, json!({"m": {"properties.desired.rate": 7}}));
    let mine = configuration("mine", 0, 0, json!({"moduleContent": {"properties.desired.own": 1}}));
    let story = Story::of(Some("m"))
        .matching(&[&base, &mine], json!({"rate": "base"}))
        .statuses(&[("mine", Targeted)])
        .matching(&[&layer, &mine], json!({"own": 1}))
        .holds(json!({"rate": "base", "own": 1}))
        .statuses(&[("mine", Applied)])
        .matching(&[], json!({"own": null}))
        .holds(json!({"rate": "base"}));
    // A deployment that has nothing for the module takes over, and takes away.
    story.matching(&[&thin], json!({"rate": null})).holds(json!({}));
    let resolution = resolve(Some(&module("$edgeAgent")), &[&layer]);
    assert_eq!(resolution.statuses[&id("layer")], Targeted);
    let resolution = resolve(Some(&module("$edgeAgent")), &[&layer, &thin]);
    assert_eq!((resolution.statuses[&id("layer")], resolution.statuses[&id("thin")]), (Applied, Applied));
    assert!(resolution.replaces && !resolution.keeps_deployed);
    // Deployments are nothing to the device's own twin.
    assert!(resolve(None, &[&base, &mine]).statuses.is_empty());
}
