//! Edge deployments with gates and in waves: the device is looked at as one, and all of its modules change in one commit.

use std::sync::Arc;
use std::time::Duration;

use hub_domain::configuration::ConfigurationSpec;
use hub_domain::event::{EventKind, EventSource};
use hub_domain::id::TwinId;
use hub_domain::identity::IdentitySpec;
use hub_domain::twin::WriteMode;
use hub_domain::version::Precondition;
use hub_engine::Error;
use hub_engine::config::Config;
use hub_engine::configurations::ConfigurationView;
use hub_engine::configurations::preview::PreviewRequest;
use hub_engine::events::EventFilter;
use hub_store::memory::MemoryStore;
use hub_testkit::TestHub;
use serde_json::{Value, json};

use crate::configuration_gates::{battery, power};
use crate::configuration_rollouts::until;
use crate::configurations::{at_rest, create, name, twin_of, values_of, write};
use crate::{desired, id, patch, tags};

/// Runs module `m`, in this version, at this speed.
fn deployment(of: &str, priority: u32, version: u32, more: &Value) -> ConfigurationSpec {
    let mut body = json!({
        "targetCondition": "tags.site = 'a'", "priority": priority,
        "content": {"modulesContent": {
            "$edgeAgent": {"properties.desired": {"modules": {"m": {"version": version}}}},
            "m": {"properties.desired": {"speed": version}},
        }},
    });
    let more = more.as_object().expect("members").clone();
    body.as_object_mut().expect("a body").extend(more);
    ConfigurationSpec::parse(name(of), &body).expect("a configuration")
}

fn gates() -> Value {
    json!({ "gates": power() })
}

fn module(device: &str, module: &str) -> TwinId {
    TwinId::parse(device, Some(module)).expect("an id")
}

/// Edge devices of site a.
async fn gateways(count: usize) -> TestHub {
    let config = Config { configuration_content_editable: true, ..Config::default() };
    let test = TestHub::on_with(Arc::new(MemoryStore::new()), config).await;
    for device in (0..count).map(|n| format!("g{n}")) {
        let edge = IdentitySpec { edge: true, ..IdentitySpec::default() };
        test.hub.identity_create(&test.owner(), id(&device), edge).await.expect("registered");
        write(&test, &device, tags(json!({"site": "a"}))).await;
    }
    test
}

/// What the agent is to run, and how fast the module goes.
fn runs(test: &TestHub, device: &str) -> (Value, Value) {
    let version = values_of(test, &module(device, "$edgeAgent"))["modules"]["m"]["version"].take();
    (version, values_of(test, &module(device, "m"))["speed"].take())
}

fn at(version: u32) -> (Value, Value) {
    (json!(version), json!(version))
}

async fn view(test: &TestHub, of: &str) -> ConfigurationView {
    test.hub.configuration_get(&test.owner(), &name(of)).await.expect("a configuration")
}

async fn update(test: &TestHub, spec: ConfigurationSpec) -> Result<ConfigurationView, Error> {
    test.hub.configuration_update(&test.owner(), spec, &Precondition::None).await
}

async fn delete(test: &TestHub, of: &str) {
    test.hub.configuration_delete(&test.owner(), &name(of), &Precondition::None).await.expect("deleted");
    at_rest(test).await;
}

#[tokio::test(start_paused = true)]
async fn a_device_lets_a_deployment_in_with_all_of_its_modules() {
    let test = gateways(2).await;
    create(&test, deployment("v1", 1, 1, &json!({}))).await;
    battery(&test, "g0", 10).await;
    battery(&test, "g1", 80).await;
    at_rest(&test).await;
    let next = deployment("v2", 5, 2, &gates());
    let asked = PreviewRequest { put: vec![next.clone()], shown_max: 9, ..PreviewRequest::default() };
    let preview = test.hub.configurations_preview(&test.owner(), asked).await.expect("thought through");
    assert_eq!((preview.configurations[&name("v2")].waiting.twins, preview.changed), (1, 4));
    create(&test, next).await;
    at_rest(&test).await;
    // Who waits goes on with what the next priority says.
    assert_eq!((runs(&test, "g0"), runs(&test, "g1")), (at(1), at(2)));
    let statuses = |device| twin_of(&test, &module(device, "$edgeAgent"))["configurations"].take();
    assert_eq!(statuses("g0"), json!({"v1": {"status": "Applied"}, "v2": {"status": "Targeted"}}));
    assert_eq!(statuses("g1"), json!({"v1": {"status": "Targeted"}, "v2": {"status": "Applied"}}));
    let shown = view(&test, "v2").await;
    assert_eq!((shown.system["targetedCount"], shown.system["appliedCount"]), (2, 1));
    let waiting = shown.waiting.expect("it has gates");
    assert_eq!((waiting.twins, waiting.reasons["power.batteryLow"].devices), (1, 1));
    for (of, reason) in [
        (id("g0"), "it waits at a closed gate: power: the battery is low"),
        (module("g0", "m"), "it waits at a closed gate: power: the battery is low"),
        (id("g1"), "its settings are for the modules of this device"),
        (module("g1", "m"), "1 of 1 settings in force"),
    ] {
        let said = test.hub.explain(&test.owner(), &of).await.expect("explained");
        let said_of = said.configurations.iter().find(|one| one.configuration.spec().id == name("v2"));
        let said_of = said_of.expect("it targets it");
        assert!(said_of.reason.starts_with(reason) && said.settled, "{of}: {}", said_of.reason);
        assert_eq!(said_of.waits_for.is_some(), reason.contains("waits"), "{of}");
    }

    // The report that opens the gate brings all modules, in its own commit; one that closes it takes nothing away.
    battery(&test, "g0", 60).await;
    assert_eq!(runs(&test, "g0"), at(2));
    battery(&test, "g0", 5).await;
    let by_hand = desired(json!({"speed": 9}));
    let m = module("g0", "m");
    let owner = test.owner();
    let written = test.hub.twin_update(&owner, &m, &by_hand, WriteMode::Patch, &Precondition::None);
    written.await.expect("written");
    assert_eq!(runs(&test, "g0"), at(2), "what it owns is its own, gate or not");
    at_rest(&test).await;
    let again = test.killed().await;
    at_rest(&again).await;
    assert_eq!(runs(&again, "g0"), at(2));

    // Who leaves the target and comes back is let in anew; meanwhile all modules do what the other one says.
    write(&again, "g0", tags(json!({"site": "b"}))).await;
    write(&again, "g0", tags(json!({"site": "a"}))).await;
    assert_eq!(runs(&again, "g0"), at(1));
    at_rest(&again).await;
    battery(&again, "g0", 60).await;
    assert_eq!(runs(&again, "g0"), at(2));
    delete(&again, "v2").await;
    assert_eq!((runs(&again, "g0"), runs(&again, "g1")), (at(1), at(1)));
    let let_in = |device| again.hub.twin_get(&again.owner(), &id(device)).expect("a twin").twin.let_in.len();
    assert_eq!((let_in("g0"), let_in("g1")), (0, 0), "nothing is remembered of what is gone");
}

#[tokio::test(start_paused = true)]
async fn gates_of_deployments_are_overridden_taken_away_and_not_given_later() {
    let test = gateways(2).await;
    create(&test, deployment("v1", 1, 1, &json!({}))).await;
    create(&test, deployment("v2", 5, 2, &gates())).await;
    at_rest(&test).await;
    assert_eq!(runs(&test, "g0"), at(1));
    let refused = async |spec, part: &str| {
        let error = update(&test, spec).await.expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(deployment("v1", 1, 1, &gates()), "gates are given to an edge deployment that is in force").await;
    refused(deployment("v2", 5, 3, &json!({})), "content of an edge deployment with gates cannot be changed")
        .await;
    assert_eq!(runs(&test, "g0"), at(1));

    test.hub
        .configuration_override_gates(&test.owner(), &name("v2"), "CVE-2026-1")
        .await
        .expect("overridden");
    at_rest(&test).await;
    assert_eq!((runs(&test, "g0"), runs(&test, "g1")), (at(2), at(2)));
    let filter = EventFilter { sources: vec![EventSource::Job], device: None };
    let page = test.hub.events_read(&test.owner(), &filter, None, 10).await.expect("events");
    let overrides = page.events.iter().filter(|(_, event)| matches!(event.kind, EventKind::Override { .. }));
    let told: Vec<_> = overrides.map(|(_, event)| event.id.to_string()).collect();
    assert_eq!(told, ["g0", "g1"], "of devices, once each");

    create(&test, deployment("v3", 7, 3, &gates())).await;
    at_rest(&test).await;
    assert_eq!(runs(&test, "g0"), at(2));
    update(&test, deployment("v3", 7, 3, &json!({"gates": {}}))).await.expect("edited");
    at_rest(&test).await;
    assert_eq!((runs(&test, "g0"), runs(&test, "g1")), (at(3), at(3)));
    assert!(view(&test, "v3").await.waiting.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_window_opens_for_devices_that_are_there_come_go_and_change() {
    let test = gateways(1).await;
    let hour = (hub_testkit::START_SECONDS / 3600 + 2) % 24;
    let window = json!({"window": {"rrule": format!("FREQ=DAILY;BYHOUR={hour}"), "durationInSeconds": 1800}});
    write(&test, "g0", tags(json!({"timeZone": "Etc/UTC"}))).await;
    create(&test, deployment("v1", 1, 1, &json!({ "gates": window }))).await;
    at_rest(&test).await;
    assert!(test.hub.twin_get(&test.owner(), &module("g0", "m")).is_err(), "the module comes with it");
    test.advance(Duration::from_secs(2 * 3600));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(runs(&test, "g0"), at(1));
    at_rest(&test).await;
    let edge = IdentitySpec { edge: true, ..IdentitySpec::default() };
    test.hub.identity_create(&test.owner(), id("g1"), edge).await.expect("registered");
    write(&test, "g1", tags(json!({"timeZone": "Etc/UTC", "site": "a"}))).await;
    assert_eq!(runs(&test, "g1"), at(1));
    // One that is an edge device no more keeps what it runs, and is remembered nowhere.
    let (owner, g1) = (test.owner(), id("g1"));
    let plain = test.hub.identity_update(&owner, &g1, IdentitySpec::default(), &Precondition::None);
    plain.await.expect("updated");
    at_rest(&test).await;
    assert!(test.hub.twin_get(&test.owner(), &id("g1")).expect("a twin").twin.let_in.is_empty());
    // And one that becomes an edge device is asked then.
    test.register("g2").await;
    write(&test, "g2", tags(json!({"timeZone": "Etc/UTC", "site": "a"}))).await;
    let (edge, g2) = (IdentitySpec { edge: true, ..IdentitySpec::default() }, id("g2"));
    test.hub.identity_update(&owner, &g2, edge, &Precondition::None).await.expect("updated");
    assert_eq!(runs(&test, "g2"), at(1));
    at_rest(&test).await;
}

#[tokio::test(start_paused = true)]
async fn deployments_come_in_waves_and_go_back_whole() {
    let test = gateways(6).await;
    create(&test, deployment("v1", 1, 1, &json!({}))).await;
    at_rest(&test).await;
    let rollout = json!({"rollout": {
        "waves": [{"devices": 2}, {"rest": true}], "seed": 7, "deviceTimeoutInSeconds": 600,
        "success": {"condition": "properties.reported.lastDesiredStatus.code = 200"},
        "failure": {"condition": "properties.reported.lastDesiredStatus.code >= 400"},
        "stop": {"failures": {"count": 1}}, "onStop": "rollBack",
    }});
    let next = deployment("v2", 5, 2, &rollout);
    let asked = PreviewRequest { put: vec![next.clone()], shown_max: 9, ..PreviewRequest::default() };
    let preview = test.hub.configurations_preview(&test.owner(), asked).await.expect("thought through");
    assert_eq!(
        preview.configurations[&name("v2")].waves,
        [2, 4],
        "of devices, however many modules they have"
    );
    create(&test, next).await;
    until(&test, "v2", "running", 1).await;
    at_rest(&test).await;
    let devices: Vec<String> = (0..6).map(|n| format!("g{n}")).collect();
    let with =
        |version| devices.iter().filter(|device| runs(&test, device) == at(version)).collect::<Vec<_>>();
    let canaries = with(2);
    assert_eq!((canaries.len(), with(1).len()), (2, 4));
    let reports = async |device: &str, code: u32| {
        let said = patch(json!({"lastDesiredStatus": {"code": code}}));
        let agent = module(device, "$edgeAgent");
        test.hub.twin_patch_reported(&test.owner(), &agent, &said, None).await.expect("reported");
    };
    let waves = async || {
        let view = view(&test, "v2").await;
        let waves = &view.configuration.stages().expect("waves").state().waves;
        waves.iter().map(|wave| [wave.in_flight, wave.ended.succeeded, wave.ended.failed]).collect::<Vec<_>>()
    };
    assert_eq!(waves().await, [[2, 0, 0], [0, 0, 0]]);
    for device in &canaries {
        reports(device, 200).await;
    }
    until(&test, "v2", "running", 2).await;
    at_rest(&test).await;
    assert_eq!(with(2).len(), 6);
    assert_eq!(waves().await, [[0, 2, 0], [4, 0, 0]]);
    let last = devices.iter().find(|device| !canaries.contains(device)).expect("four others");
    reports(last, 406).await;
    until(&test, "v2", "rollingBack", 2).await;
    at_rest(&test).await;
    assert_eq!(with(1).len(), 6, "all modules go back, not the agents alone");
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_changes_brings_all_modules_to_the_other_deployment() {
    let test = gateways(2).await;
    create(&test, deployment("v1", 1, 1, &json!({}))).await;
    create(&test, deployment("v2", 5, 2, &json!({}))).await;
    at_rest(&test).await;
    assert_eq!(runs(&test, "g1"), at(2));
    let narrower = deployment("v2", 5, 2, &json!({"targetCondition": "deviceId = 'g0'"}));
    update(&test, narrower).await.expect("edited");
    at_rest(&test).await;
    assert_eq!((runs(&test, "g0"), runs(&test, "g1")), (at(2), at(1)));
    delete(&test, "v2").await;
    assert_eq!(runs(&test, "g0"), at(1));
}
