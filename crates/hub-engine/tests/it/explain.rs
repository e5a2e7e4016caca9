//! Explanations: of each desired property who set it over whom, and of each configuration why it applies or does not.

use hub_domain::id::TwinId;
use hub_domain::identity::IdentitySpec;
use hub_engine::Error;
use hub_engine::config::EXPLAIN_CONFIGURATIONS_MAX;
use hub_engine::configurations::explain::{Explained, ExplainedProperty, Setter};
use hub_testkit::TestHub;
use serde_json::{Value, json};

use crate::configurations::{at_rest, create, device_content, name, spec, write};
use crate::{desired, id, tags};

async fn explain(test: &TestHub, id: &TwinId) -> Explained {
    test.hub.explain(&test.owner(), id).await.expect("explained")
}

fn property<'e>(explained: &'e Explained, path: &str) -> &'e ExplainedProperty {
    let found = explained.properties.iter().find(|property| property.path == path);
    found.unwrap_or_else(|| panic!("{path} is not in {explained:?}"))
}

/// Path, value and who set it.
fn setters(explained: &Explained) -> Value {
    let setter = |property: &ExplainedProperty| match &property.set_by {
        Some(Setter::Configuration(id)) => json!(id.as_str()),
        Some(Setter::BackEnd(actor)) => json!(actor.as_ref().map(|actor| format!("by {actor}"))),
        None => json!(null),
    };
    explained.properties.iter().map(|one| json!([one.path, one.value, setter(one)])).collect()
}

/// Id, whether it targets, status, and reason.
fn configurations(explained: &Explained) -> Value {
    let one = explained.configurations.iter().map(|one| {
        let status = one.status.map(|status| status.as_str());
        json!([one.configuration.spec().id.as_str(), one.targets, status, one.reason])
    });
    one.collect()
}

#[tokio::test(start_paused = true)]
async fn who_set_what_over_whom() {
    let test = TestHub::start().await;
    test.register("d").await;
    write(&test, "d", tags(json!({"site": "a"}))).await;
    write(&test, "d", desired(json!({"own": {"x": 1}, "gone": 1, "filled": {"x": 1}}))).await;
    let content = device_content(json!({
        "properties.desired.rate": 5, "properties.desired.gone": null, "properties.desired.filled": {},
    }));
    create(&test, spec("high", "tags.site = 'a'", 9, content)).await;
    let content = device_content(json!({"properties.desired.rate": {"low": 1}, "properties.desired.low": 2}));
    create(&test, spec("low", "*", 1, content)).await;
    create(&test, spec("lost", "*", 9, device_content(json!({"properties.desired.own.x": 3})))).await;
    create(&test, spec("newer", "*", 9, device_content(json!({"properties.desired.own": {}})))).await;
    at_rest(&test).await;

    let said = explain(&test, &id("d")).await;
    assert_eq!((said.settled, &said.error, said.left_out), (true, &None, 0));
    let expected = json!([
        ["filled", {"x": 1}, "high"], ["filled.x", 1, "by policy:iothubowner"], ["gone", null, "high"], ["low", 2, "low"],
        ["own.x", 3, "lost"], ["rate", 5, "high"],
    ]);
    assert_eq!(setters(&said), expected);
    let twin = test.hub.twin_get(&test.owner(), &id("d")).expect("a twin").twin.clone();
    let rate = property(&said, "rate");
    let stamp = &twin.desired.metadata.children["rate"].stamp;
    assert_eq!((rate.set_at, rate.version), (Some(stamp.at), stamp.version.map(|version| version.get())));
    let [lost] = &rate.overridden[..] else { panic!("{rate:?}") };
    assert_eq!((&lost.configuration, lost.path.as_str(), &lost.value), (&name("low"), "rate.low", &json!(1)));
    assert_eq!(lost.reason, "configuration 'high' sets rate; it has priority 9 and this one 1");
    let [lost] = &property(&said, "own.x").overridden[..] else { panic!("{said:?}") };
    assert_eq!((lost.path.as_str(), &lost.value), ("own", &json!({})));
    // Made at the same moment, by a clock that stands still.
    assert!(lost.reason.ends_with("the same priority and age, and the smaller id"), "{}", lost.reason);
    assert_eq!(property(&said, "gone").set_at, None);
    assert!(said.properties.iter().all(|property| property.wanted.is_none()));
    let expected = json!([
        ["high", true, "Applied", "3 of 3 settings in force"],
        ["lost", true, "Applied", "1 of 1 settings in force"],
        ["newer", true, "Targeted", "0 of 1 settings in force"],
        ["low", true, "Applied", "1 of 2 settings in force"],
    ]);
    assert_eq!(configurations(&said), expected);
}

#[tokio::test(start_paused = true)]
async fn the_nearest_of_those_that_do_not_target_come_first() {
    let test = TestHub::start().await;
    test.register("d").await;
    write(&test, "d", tags(json!({"site": "a", "ring": 1}))).await;
    let content = || device_content(json!({"properties.desired.x": 1}));
    let far = "tags.site = 'b' AND tags.ring = 2";
    for n in 0..EXPLAIN_CONFIGURATIONS_MAX {
        create(&test, spec(&format!("far-{n}"), far, 1, content())).await;
    }
    create(&test, spec("none", "", 9, content())).await;
    create(&test, spec("near", "tags.site = 'a' AND tags.ring = 2", 0, content())).await;
    create(&test, spec("absent", "tags.floor = 2", 1, content())).await;
    let of_modules = json!({"moduleContent": {"properties.desired.x": 1}});
    create(&test, spec("other-kind", "FROM devices.modules WHERE moduleId = 'm'", 9, of_modules)).await;
    at_rest(&test).await;

    let said = explain(&test, &id("d")).await;
    assert_eq!((said.configurations.len(), said.left_out), (EXPLAIN_CONFIGURATIONS_MAX, 3));
    assert_eq!(said.properties, []);
    let all = configurations(&said);
    let undefined =
        "its target condition is undefined here: something that it reads is absent or of another type";
    assert_eq!(all[0], json!(["absent", false, null, undefined]));
    assert_eq!(all[1], json!(["near", false, null, "its target condition is false here"]));
    assert!(all[2][0].as_str().is_some_and(|id| id.starts_with("far-")), "{all}");
    assert!(!all.to_string().contains("\"none\""), "what matches nothing is the farthest");
    let near = &said.configurations[1].condition;
    assert_eq!((near.terms[0].result, near.terms[1].result), (Some(true), Some(false)));
    assert_eq!(near.terms[1].reads[0].value, Some(json!(1)));
}

#[tokio::test(start_paused = true)]
async fn a_twin_that_cannot_take_its_settings_says_why() {
    let test = TestHub::start().await;
    test.register("full").await;
    let most = Value::Object((0..8).map(|n| (format!("k{n}"), json!("x".repeat(4000)))).collect());
    write(&test, "full", desired(most)).await;
    let more = json!("y".repeat(2000));
    create(&test, spec("a", "*", 1, device_content(json!({"properties.desired.more": more})))).await;
    at_rest(&test).await;
    let said = explain(&test, &id("full")).await;
    let error = said.error.as_deref().expect("an error");
    assert!(!said.settled && error.contains("desired"), "{error}");
    let reason = format!("the twin cannot take its settings: {error}");
    assert_eq!(configurations(&said), json!([["a", true, "Targeted", reason]]));
    let wanted = property(&said, "more");
    assert_eq!((&wanted.value, &wanted.set_by), (&None, &None));
    assert_eq!(wanted.wanted, Some((name("a"), more)));
}

#[tokio::test(start_paused = true)]
async fn modules_have_configurations_of_their_own_and_deployments() {
    let test = TestHub::start().await;
    let edge = IdentitySpec { edge: true, ..IdentitySpec::default() };
    test.hub.identity_create(&test.owner(), id("edge"), edge).await.expect("registered");
    test.register("plain").await;
    for module in ["edge/m1", "edge/m2", "plain/m1"] {
        test.register(module).await;
    }
    write(&test, "edge", tags(json!({"site": "a"}))).await;
    let of_modules = json!({"moduleContent": {"properties.desired.x": 1}});
    create(&test, spec("mod", "FROM devices.modules WHERE moduleId = 'm1'", 1, of_modules)).await;
    let layer = json!({"modulesContent": {"m1": {"properties.desired.speed": 2}}});
    create(&test, spec("layer", "tags.site = 'a'", 5, layer)).await;
    at_rest(&test).await;
    let module = |device, module| TwinId::parse(device, Some(module)).expect("an id");

    let said = explain(&test, &module("edge", "m1")).await;
    let lost = "it is a layer, and no standard deployment with a lower priority targets the device";
    assert_eq!(property(&said, "speed").overridden[0].reason, lost);
    assert_eq!(property(&said, "speed").set_by, None);
    let base = json!({"modulesContent": {
        "$edgeAgent": {"properties.desired": {"modules": {}}}, "m1": {"properties.desired": {"speed": 1}},
    }});
    create(&test, spec("base", "tags.site = 'a'", 1, base)).await;
    at_rest(&test).await;

    let said = explain(&test, &module("edge", "m1")).await;
    assert!(said.settled, "{said:?}");
    assert_eq!(property(&said, "speed").value, Some(json!(2)));
    let all = configurations(&said);
    let reason = "1 of 1 settings in force";
    assert_eq!(all[0], json!(["layer", true, null, reason]));
    assert_eq!(said.configurations[0].condition.terms, []);
    assert_eq!(said.configurations[0].condition.reads[0].value, Some(json!("a")), "of the device");
    let said = explain(&test, &module("edge", "m2")).await;
    assert_eq!(configurations(&said)[0], json!(["layer", true, null, "has no settings for this twin"]));
    let said = explain(&test, &module("plain", "m1")).await;
    let all = configurations(&said);
    assert_eq!(all[0], json!(["mod", true, "Applied", reason]));
    assert_eq!(all[1], json!(["layer", false, null, "the device is no edge device"]));
}

#[tokio::test]
async fn only_services_ask_and_only_of_what_is_there() {
    let test = TestHub::start().await;
    test.register("d").await;
    for policy in ["registryRead", "registryReadWrite", "device"] {
        let refused = test.hub.explain(&test.service(policy), &id("d")).await;
        assert!(matches!(refused, Err(Error::Forbidden(_))), "{policy}: {refused:?}");
    }
    let gone = test.hub.explain(&test.service("service"), &id("e")).await;
    assert!(matches!(gone, Err(Error::DeviceNotFound(_))), "{gone:?}");
    let gone = test.hub.explain(&test.owner(), &TwinId::parse("d", Some("m")).expect("an id")).await;
    assert!(matches!(gone, Err(Error::ModuleNotFound(_))), "{gone:?}");
}
