//! Configurations: twins are as they want whenever a twin, its owner or a configuration changes, and after a restart.

use std::collections::BTreeMap;
use std::time::Duration;

use hub_domain::configuration::{ConfigurationSpec, Content, Problem};
use hub_domain::id::{ConfigurationId, TwinId};
use hub_domain::identity::IdentitySpec;
use hub_domain::limits::MODULES_PER_DEVICE_MAX;
use hub_domain::link::Downlink;
use hub_domain::session::Family;
use hub_domain::twin::{TwinUpdate, WriteMode};
use hub_domain::version::Precondition;
use hub_engine::config::SESSION_QUEUE_MAX;
use hub_engine::configurations::preview::{PreviewFares, PreviewRequest};
use hub_engine::{Credential, Error};
use hub_testkit::TestHub;
use serde_json::{Value, json};

use crate::{desired, id, patch, tags};

pub fn name(text: &str) -> ConfigurationId {
    ConfigurationId::parse(text).expect("a valid id")
}

pub fn spec(id: &str, condition: &str, priority: u32, content: Value) -> ConfigurationSpec {
    let body = json!({"content": content, "targetCondition": condition, "priority": priority});
    ConfigurationSpec::parse(name(id), &body).expect("a valid configuration")
}

pub fn device_content(values: Value) -> Value {
    json!({ "deviceContent": values })
}

pub async fn create(test: &TestHub, spec: ConfigurationSpec) {
    test.hub.configuration_create(&test.owner(), spec).await.expect("created");
}

pub async fn write(test: &TestHub, device: &str, update: TwinUpdate) {
    let written = test
        .hub
        .twin_update(&test.owner(), &id(device), &update, WriteMode::Patch, &Precondition::None)
        .await;
    written.expect("written");
}

pub fn twin_of(test: &TestHub, id: &TwinId) -> Value {
    test.hub.twin_get(&test.owner(), id).expect("a twin").document().to_json()
}

/// The desired values of a twin, without what the hub notes of them.
pub fn values(test: &TestHub, device: &str) -> Value {
    values_of(test, &id(device))
}

/// Likewise, of any twin.
pub fn values_of(test: &TestHub, id: &TwinId) -> Value {
    let mut desired = twin_of(test, id)["properties"]["desired"].take();
    desired.as_object_mut().expect("a section").retain(|key, _| !key.starts_with('$'));
    desired
}

/// Waits until all twins are as all configurations want them; that nothing had to be repaired is part of it.
pub async fn at_rest(test: &TestHub) {
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        test.hub.prove_configurations().await.expect("proven"),
        0,
        "a twin was not as its configurations want"
    );
}

#[tokio::test(start_paused = true)]
async fn entering_and_leaving_a_target_is_acted_on_in_the_same_commit() {
    let test = TestHub::start().await;
    test.register("d").await;
    create(
        &test,
        spec(
            "low",
            "tags.site = 'a'",
            1,
            device_content(json!({"properties.desired.rate": 5, "properties.desired.low": true})),
        ),
    )
    .await;
    create(
        &test,
        spec(
            "high",
            "tags.site = 'a' AND tags.ring = 1",
            2,
            device_content(json!({"properties.desired.rate": 9})),
        ),
    )
    .await;
    write(&test, "d", desired(json!({"mine": 1}))).await;
    assert_eq!(values(&test, "d"), json!({"mine": 1}));

    write(&test, "d", tags(json!({"site": "a"}))).await;
    assert_eq!(values(&test, "d"), json!({"mine": 1, "rate": 5, "low": true}));
    write(&test, "d", tags(json!({"ring": 1}))).await;
    assert_eq!(values(&test, "d"), json!({"mine": 1, "rate": 9, "low": true}));
    let twin = twin_of(&test, &id("d"));
    assert_eq!(twin["configurations"], json!({"high": {"status": "Applied"}, "low": {"status": "Applied"}}));
    assert_eq!(twin["properties"]["desired"]["$metadata"]["rate"]["$lastUpdatedBy"], "high");
    let version = twin["properties"]["desired"]["$version"].clone();

    write(&test, "d", tags(json!({"other": 1}))).await;
    assert_eq!(twin_of(&test, &id("d"))["properties"]["desired"]["$version"], version, "nothing changed");
    write(&test, "d", desired(json!({"rate": 1, "mine": 2}))).await;
    assert_eq!(
        values(&test, "d"),
        json!({"mine": 2, "rate": 9, "low": true}),
        "what a configuration owns is its own"
    );
    write(&test, "d", tags(json!({"ring": null}))).await;
    assert_eq!(values(&test, "d"), json!({"mine": 2, "rate": 5, "low": true}));
    write(&test, "d", tags(json!({"site": null}))).await;
    assert_eq!(values(&test, "d"), json!({"mine": 2}));
    assert_eq!(twin_of(&test, &id("d")).get("configurations"), None);
    at_rest(&test).await;
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_changes_goes_over_all_twins() {
    let test = TestHub::start().await;
    for n in 0..150 {
        test.register(&format!("d{n:03}")).await;
        write(&test, &format!("d{n:03}"), tags(json!({"ring": n % 3}))).await;
    }
    let content = device_content(json!({"properties.desired.rate": 5}));
    create(&test, spec("a", "tags.ring < 2", 1, content.clone())).await;
    at_rest(&test).await;
    let view = async || test.hub.configuration_get(&test.owner(), &name("a")).await.expect("there");
    let count = |n: u64| BTreeMap::from([("appliedCount".to_owned(), n), ("targetedCount".to_owned(), n)]);
    assert_eq!(view().await.system, count(100));

    let etag = view().await.configuration.etag();
    let narrower = spec("a", "tags.ring = 0", 1, content.clone());
    test.hub
        .configuration_update(&test.owner(), narrower.clone(), &Precondition::Is(etag.clone()))
        .await
        .expect("changed");
    let stale = test.hub.configuration_update(&test.owner(), narrower, &Precondition::Is(etag)).await;
    assert_eq!(stale.expect_err("a stale etag"), Error::PreconditionFailed);
    at_rest(&test).await;
    assert_eq!(view().await.system, count(50));
    assert_eq!((values(&test, "d000"), values(&test, "d001")), (json!({"rate": 5}), json!({})));

    test.hub.configuration_delete(&test.owner(), &name("a"), &Precondition::None).await.expect("deleted");
    at_rest(&test).await;
    assert_eq!(values(&test, "d000"), json!({}));
    let gone = test.hub.configuration_get(&test.owner(), &name("a")).await.expect_err("gone");
    assert_eq!(gone, Error::ConfigurationNotFound(name("a")));
}

#[tokio::test(start_paused = true)]
async fn a_restart_finishes_what_was_begun() {
    let test = TestHub::start().await;
    for n in 0..300 {
        test.register(&format!("d{n:03}")).await;
    }
    create(&test, spec("gone", "*", 1, device_content(json!({"properties.desired.old": 1})))).await;
    at_rest(&test).await;
    create(&test, spec("a", "*", 1, device_content(json!({"properties.desired.rate": 5})))).await;
    test.hub.configuration_delete(&test.owner(), &name("gone"), &Precondition::None).await.expect("deleted");
    // Whatever of the sweep was done is done.
    let again = test.killed().await;
    at_rest(&again).await;
    let count = again.hub.query(&again.owner(), "SELECT COUNT() AS n FROM devices WHERE properties.desired.rate = 5 AND NOT is_defined(properties.desired.old)", None, None).await;
    assert_eq!(count.expect("counted").values(), [json!({"n": 300})]);
}

#[tokio::test(start_paused = true)]
async fn new_devices_reports_owners_and_connections_are_looked_at() {
    let test = TestHub::start().await;
    let value = |n: u32| device_content(json!({format!("properties.desired.c{n}"): n}));
    create(&test, spec("all", "*", 1, value(1))).await;
    create(&test, spec("old", "properties.reported.fw.major < 3", 1, value(2))).await;
    create(&test, spec("off", "status = 'disabled'", 1, value(3))).await;
    create(&test, spec("there", "connectionState = 'Connected'", 1, value(4))).await;
    create(&test, spec("none", "", 1, value(5))).await;
    let (device, token) = test.register("d").await;
    assert_eq!(values(&test, "d"), json!({"c1": 1}));

    let who = test.hub.authenticate_device(&device, Credential::Token(&token)).expect("its own token");
    let (sender, mut queue) = hub_engine::downlinks(SESSION_QUEUE_MAX);
    let attachment = test.hub.attach(&who, &device, false, sender).await.expect("attached");
    assert_eq!(values(&test, "d"), json!({"c1": 1, "c4": 4}));
    test.hub.subscribe(&attachment, Family::Desired, false).await.expect("subscribed");
    let report = async |major: u32| {
        let reported = patch(json!({"fw": {"major": major}}));
        test.hub.twin_patch_reported(&who, &device, &reported, None).await.expect("reported")
    };
    report(2).await;
    assert_eq!(values(&test, "d"), json!({"c1": 1, "c2": 2, "c4": 4}));
    let Some(Downlink::DesiredChanged { patch, version }) = queue.next().await else {
        panic!("the device is told")
    };
    assert_eq!((Value::Object(patch.as_ref().clone()), version), (json!({"c2": 2}), 4));
    report(3).await;
    assert_eq!(values(&test, "d"), json!({"c1": 1, "c4": 4}));

    let disabled =
        IdentitySpec { status: Some(hub_domain::identity::Status::Disabled), ..IdentitySpec::default() };
    test.hub
        .identity_update(&test.owner(), &device, disabled, &Precondition::Exists)
        .await
        .expect("disabled");
    assert_eq!(values(&test, "d")["c3"], 3);
    drop(attachment);
    at_rest(&test).await;
    assert_eq!(values(&test, "d"), json!({"c1": 1, "c3": 3}));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_into_one_twin_is_said_there_and_the_others_go_on() {
    let test = TestHub::start().await;
    for device in ["full", "free"] {
        test.register(device).await;
    }
    let most = Value::Object((0..8).map(|n| (format!("k{n}"), json!("x".repeat(4000)))).collect());
    write(&test, "full", desired(most)).await;
    create(&test, spec("a", "*", 1, device_content(json!({"properties.desired.more": "y".repeat(2000)}))))
        .await;
    at_rest(&test).await;
    assert_eq!(twin_of(&test, &id("full"))["configurations"], json!({"a": {"status": "Targeted"}}));
    assert_eq!(twin_of(&test, &id("free"))["configurations"], json!({"a": {"status": "Applied"}}));
    assert!(test.hub.numbers().configurations_misfit > 0);
    write(&test, "full", desired(json!({"k0": null}))).await;
    assert_eq!(twin_of(&test, &id("full"))["configurations"], json!({"a": {"status": "Applied"}}));
    at_rest(&test).await;
}

#[tokio::test(start_paused = true)]
async fn modules_and_edge_deployments() {
    let test = TestHub::start().await;
    test.register("plain").await;
    test.register("plain/m").await;
    let edge = IdentitySpec { edge: true, ..IdentitySpec::default() };
    test.hub.identity_create(&test.owner(), id("edge"), edge).await.expect("registered");
    let module = |device, module| TwinId::parse(device, Some(module)).expect("an id");
    let desired_of = |id: &TwinId| values_of(&test, id);
    let of_modules = json!({"moduleContent": {"properties.desired.x": 1}});
    create(&test, spec("mod", "FROM devices.modules WHERE moduleId = 'm'", 1, of_modules)).await;
    let base = json!({"modulesContent": {
        "$edgeAgent": {"properties.desired": {"modules": {"m1": {"version": "1"}}}},
        "$edgeHub": {"properties.desired": {"routes": {}}},
        "m1": {"properties.desired": {"speed": 1}},
    }});
    create(&test, spec("base", "tags.site = 'a'", 1, base)).await;
    at_rest(&test).await;
    assert_eq!(desired_of(&module("plain", "m")), json!({"x": 1}));
    assert_eq!(desired_of(&module("edge", "$edgeAgent")), json!({}));

    write(&test, "edge", tags(json!({"site": "a"}))).await;
    assert_eq!(desired_of(&module("edge", "$edgeAgent")), json!({"modules": {"m1": {"version": "1"}}}));
    assert_eq!(
        twin_of(&test, &module("edge", "$edgeAgent"))["configurations"],
        json!({"base": {"status": "Applied"}})
    );
    assert_eq!(desired_of(&module("edge", "m1")), json!({"speed": 1}), "it came with the deployment");
    let layer = json!({"modulesContent": {"m1": {"properties.desired.speed": 2}}});
    create(&test, spec("layer", "tags.site = 'a'", 5, layer)).await;
    at_rest(&test).await;
    assert_eq!(desired_of(&module("edge", "m1")), json!({"speed": 2}));
    let view = test.hub.configuration_get(&test.owner(), &name("base")).await.expect("there");
    assert_eq!((view.system["targetedCount"], view.system["appliedCount"]), (1, 1));
    test.hub
        .configuration_delete(&test.owner(), &name("layer"), &Precondition::Exists)
        .await
        .expect("deleted");
    at_rest(&test).await;
    assert_eq!(desired_of(&module("edge", "m1")), json!({"speed": 1}));
}

/// A deployment that has these modules run.
fn deployment(modules: impl IntoIterator<Item = String>) -> Value {
    let listed: serde_json::Map<_, _> = modules.into_iter().map(|module| (module, json!({}))).collect();
    json!({"modulesContent": {"$edgeAgent": {"properties.desired": {"modules": listed}}}})
}

#[tokio::test(start_paused = true)]
async fn modules_that_came_with_a_deployment_go_when_it_does_not_list_them_any_more() {
    let test = TestHub::start().await;
    let edge = IdentitySpec { edge: true, ..IdentitySpec::default() };
    test.hub.identity_create(&test.owner(), id("edge"), edge).await.expect("registered");
    test.register("edge/own").await;
    let names = |modules: &[&str]| modules.iter().map(|module| (*module).to_owned()).collect::<Vec<_>>();
    let there = async || {
        at_rest(&test).await;
        let modules = test.hub.module_list(&test.owner(), &id("edge").device).expect("modules");
        let mut names: Vec<_> = modules.iter().filter_map(|view| view.identity.id.module.clone()).collect();
        names.sort();
        names
            .iter()
            .map(|module| module.as_str().to_owned())
            .filter(|name| !name.starts_with('$'))
            .collect::<Vec<_>>()
    };
    create(&test, spec("base", "*", 1, deployment(names(&["m1", "m2", "own"])))).await;
    assert_eq!(there().await, ["m1", "m2", "own"]);
    let generation = |module: &str| {
        let module = TwinId::parse("edge", Some(module)).expect("an id");
        test.hub.identity_get(&test.owner(), &module).expect("a module").identity.generation.clone()
    };
    let (first, second) = (generation("m1"), generation("m2"));
    create(&test, spec("other", "tags.ring = 2", 5, deployment(names(&["m2", "m3"])))).await;
    test.advance(Duration::from_secs(1));
    // In the commit that changes the target. What somebody registered himself stays, and what both list stays what it is.
    write(&test, "edge", tags(json!({"ring": 2}))).await;
    assert_eq!(there().await, ["m2", "m3", "own"]);
    assert_eq!(generation("m2"), second);
    write(&test, "edge", tags(json!({"ring": null}))).await;
    assert_eq!(there().await, ["m1", "m2", "own"]);
    assert_ne!(generation("m1"), first, "it is another one");
    // A layer that adds a module, and goes.
    let layer = json!({"modulesContent": {"$edgeAgent": {"properties.desired.modules.extra": {}}}});
    create(&test, spec("layer", "*", 7, layer)).await;
    assert_eq!(there().await, ["extra", "m1", "m2", "own"]);
    for (gone, left) in [("layer", vec!["m1", "m2", "own"]), ("base", vec!["m1", "m2", "own"])] {
        test.hub
            .configuration_delete(&test.owner(), &name(gone), &Precondition::None)
            .await
            .expect("deleted");
        // Without any deployment modules stay as they are.
        assert_eq!(there().await, left, "{gone}");
    }
    // By hand: one that is not listed stays if the content has a section for it.
    let mut content = deployment(names(&["m4"]));
    content["modulesContent"]["m2"] = json!({"properties.desired.speed": 1});
    let content = Content::parse(&content).expect("content");
    let device = id("edge").device;
    test.hub.configuration_content_apply(&test.owner(), &device, &content).await.expect("applied");
    assert_eq!(there().await, ["m2", "m4", "own"]);
    // As many as there is room for, and as many others instead of them.
    for prefix in ["a", "b"] {
        let many = (0..MODULES_PER_DEVICE_MAX - 4).map(|n| format!("{prefix}{n:02}"));
        let content = Content::parse(&deployment(many)).expect("content");
        test.hub.configuration_content_apply(&test.owner(), &device, &content).await.expect("applied");
        assert_eq!(
            there().await.iter().filter(|name| name.starts_with(prefix)).count(),
            MODULES_PER_DEVICE_MAX - 4
        );
    }
}

#[tokio::test(start_paused = true)]
async fn names_rights_content_and_queries_are_checked() {
    let test = TestHub::start().await;
    test.register("d").await;
    let content = device_content(json!({"properties.desired.rate": 5}));
    create(&test, spec("a", "*", 1, content.clone())).await;
    let again = test.hub.configuration_create(&test.owner(), spec("a", "*", 1, content.clone())).await;
    assert_eq!(again.expect_err("twice"), Error::ConfigurationExists(name("a")));
    let other = spec("a", "*", 1, device_content(json!({"properties.desired.rate": 6})));
    let frozen = test.hub.configuration_update(&test.owner(), other, &Precondition::Exists).await;
    assert!(
        matches!(&frozen, Err(Error::Configuration(error)) if error.problem == Problem::ImmutableContent),
        "{frozen:?}"
    );
    for who in ["service", "registryRead", "device"] {
        let refused =
            test.hub.configuration_create(&test.service(who), spec("b", "*", 1, content.clone())).await;
        assert!(matches!(refused, Err(Error::Forbidden(_))), "{who}");
        let refused =
            test.hub.configuration_delete(&test.service(who), &name("a"), &Precondition::None).await;
        assert!(matches!(refused, Err(Error::Forbidden(_))), "{who}");
    }
    assert!(test.hub.configuration_get(&test.service("device"), &name("a")).await.is_err());
    assert_eq!(test.hub.configuration_list(&test.service("service"), 10).await.expect("listed").len(), 1);

    let metrics = BTreeMap::from([
        ("good".to_owned(), "SELECT deviceId FROM devices".to_owned()),
        ("bad".to_owned(), "SELECT FROM".to_owned()),
    ]);
    let found =
        test.hub.configuration_test_queries(&test.owner(), Some("tags.site ="), &metrics).expect("tested");
    assert!(
        found.target_condition.is_some() && found.metrics.len() == 1 && found.metrics.contains_key("bad"),
        "{found:?}"
    );

    let body = json!({"content": content, "targetCondition": "*", "metrics": {"queries": {"fast": "SELECT deviceId FROM devices WHERE properties.desired.rate = 5"}}});
    let with_metric = ConfigurationSpec::parse(name("m"), &body).expect("valid");
    create(&test, with_metric).await;
    at_rest(&test).await;
    let view = test.hub.configuration_get(&test.owner(), &name("m")).await.expect("there");
    assert_eq!(view.custom, BTreeMap::from([("fast".to_owned(), 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_preview_says_what_would_come_and_changes_nothing() {
    let test = TestHub::start().await;
    for n in 0..10 {
        test.register(&format!("d{n}")).await;
        write(&test, &format!("d{n}"), tags(json!({"ring": n % 2}))).await;
    }
    create(&test, spec("a", "tags.ring = 0", 5, device_content(json!({"properties.desired.rate": 5})))).await;
    at_rest(&test).await;
    let before = test.hub.numbers().commits;
    let wider = spec("a", "*", 5, device_content(json!({"properties.desired.rate": 6})));
    let lower =
        spec("b", "*", 1, device_content(json!({"properties.desired.rate": 7, "properties.desired.x": 1})));
    let request =
        PreviewRequest { put: vec![wider.clone(), lower.clone()], shown_max: 3, ..PreviewRequest::default() };
    let preview = test.hub.configurations_preview(&test.owner(), request).await.expect("previewed");
    assert_eq!((preview.looked_at, preview.touched, preview.changed, preview.misfit), (10, 10, 10, 0));
    let fares = |enter, leave, conflicts| PreviewFares {
        enter,
        leave,
        targeted: 10,
        conflicts,
        ..PreviewFares::default()
    };
    assert_eq!(
        preview.configurations,
        BTreeMap::from([(name("a"), fares(5, 0, 0)), (name("b"), fares(10, 0, 10))])
    );
    let first = &preview.twins[0];
    assert_eq!(
        (preview.twins.len(), &first.id, &first.enters, &first.leaves),
        (3, &id("d0"), &vec![name("b")], &vec![])
    );
    let changes: Vec<_> = first
        .changes
        .iter()
        .map(|one| (one.path.as_str(), one.from.clone(), one.to.clone(), one.by.clone()))
        .collect();
    assert_eq!(
        changes,
        [
            ("rate", Some(json!(5)), Some(json!(6)), Some(name("a"))),
            ("x", None, Some(json!(1)), Some(name("b")))
        ]
    );
    assert_eq!((first.conflicts.len(), &first.conflicts[0].configuration), (1, &name("b")));
    assert_eq!(test.hub.numbers().commits, before, "a preview writes nothing");

    let request = PreviewRequest { remove: vec![name("a")], shown_max: 100, ..PreviewRequest::default() };
    let preview = test.hub.configurations_preview(&test.owner(), request).await.expect("previewed");
    assert_eq!((preview.touched, preview.configurations[&name("a")].leave), (5, 5));
    assert_eq!(preview.twins[0].changes[0].to, None);
    let unknown = PreviewRequest { remove: vec![name("z")], ..PreviewRequest::default() };
    let refused = test.hub.configurations_preview(&test.owner(), unknown).await;
    assert_eq!(refused.expect_err("unknown"), Error::ConfigurationNotFound(name("z")));
    // What a preview says is what comes.
    create(&test, lower).await;
    at_rest(&test).await;
    assert_eq!(
        (values(&test, "d0"), values(&test, "d1")),
        (json!({"rate": 5, "x": 1}), json!({"rate": 7, "x": 1}))
    );
}
