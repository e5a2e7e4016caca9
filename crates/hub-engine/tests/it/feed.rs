//! The feed of twin changes: each event says by whom, and what was before and is after.

use std::time::Duration;

use hub_domain::actor::Actor;
use hub_domain::event::{EventKind, EventSource, Position};
use hub_domain::id::TwinId;
use hub_domain::twin::WriteMode;
use hub_domain::version::Precondition;
use hub_engine::Credential;
use hub_engine::bulk::{BulkAction, BulkItem};
use hub_engine::events::EventFilter;
use hub_testkit::TestHub;
use serde_json::{Value, json};

use crate::configurations::{at_rest, create, device_content, name, spec, write};
use crate::jobs::patching;
use crate::{desired, id, patch, tags};

/// Events after a position as `[by whom, [[path, before, after, configuration], …]]`, and the next position.
async fn fed(test: &TestHub, source: EventSource, after: Position) -> (Vec<Value>, Position) {
    let filter = EventFilter { sources: vec![source], ..EventFilter::default() };
    let page = test.hub.events_read(&test.owner(), &filter, Some(after), 1000).await.expect("events");
    assert!(page.at_end);
    let shown = page.events.into_iter().map(|(_, event)| match event.kind {
        EventKind::Twin { actor, changes, .. } => {
            assert!(!changes.more);
            let each = changes.paths.into_iter().map(|change| {
                let by = change.configuration.map(|id| id.to_string());
                json!([change.path, change.before, change.after, by])
            });
            json!([actor.expect("somebody").to_string(), each.collect::<Vec<_>>()])
        }
        EventKind::Lifecycle { actor, step, .. } => {
            json!([actor.expect("somebody").to_string(), step.operation(), event.id.to_string()])
        }
        other => panic!("{other:?}"),
    });
    (shown.collect(), page.reached)
}

async fn twins(test: &TestHub, after: Position) -> (Vec<Value>, Position) {
    fed(test, EventSource::Twin, after).await
}

#[tokio::test]
async fn back_ends_and_devices_sign_what_they_wrote() {
    let test = TestHub::start().await;
    let (device, token) = test.register("d").await;
    let who = test.hub.authenticate_device(&device, Credential::Token(&token)).expect("its own token");
    let service = test.service("service");
    let start = test.hub.events_end();
    for (update, mode) in [
        (tags(json!({"site": {"name": "a", "floor": 1}})), WriteMode::Patch),
        (tags(json!({"site": {"floor": 2}})), WriteMode::Patch),
        (desired(json!({"rate": 5})), WriteMode::Patch),
        (desired(json!({"rate": 5, "on": true})), WriteMode::Replace),
        (tags(json!({"site": null})), WriteMode::Patch),
    ] {
        test.hub.twin_update(&service, &device, &update, mode, &Precondition::None).await.expect("written");
    }
    for reported in [json!({"rate": 4}), json!({"rate": 5}), json!({"rate": 5})] {
        test.hub.twin_patch_reported(&who, &device, &patch(reported), None).await.expect("reported");
    }
    let (told, reached) = twins(&test, start).await;
    let expected = [
        json!(["policy:service", [["tags.site.floor", null, 1, null], ["tags.site.name", null, "a", null]]]),
        json!(["policy:service", [["tags.site.floor", 1, 2, null]]]),
        json!(["policy:service", [["properties.desired.rate", null, 5, null]]]),
        json!(["policy:service", [["properties.desired.on", null, true, null]]]),
        json!(["policy:service", [["tags.site.floor", 2, null, null], ["tags.site.name", "a", null, null]]]),
        json!(["device:d", [["properties.reported.rate", null, 4, null]]]),
        json!(["device:d", [["properties.reported.rate", 4, 5, null]]]),
        json!(["device:d", []]),
    ];
    assert_eq!(told, expected);
    assert_eq!(
        twins(&test, reached).await.0,
        Vec::<Value>::new(),
        "a reader that resumes gets nothing twice"
    );
}

#[tokio::test]
async fn whoever_creates_and_deletes_is_told() {
    let test = TestHub::start().await;
    let start = test.hub.events_end();
    let owner = test.owner();
    let module = TwinId::parse("d", Some("m")).expect("an id");
    for id in [id("d"), module] {
        test.hub.identity_create(&owner, id, Default::default()).await.expect("created");
    }
    let item = |action| BulkItem { id: id("bulk"), action, record: None };
    let writer = test.service("registryReadWrite");
    let items = [
        BulkAction::Create { spec: Default::default(), twin: tags(json!({"a": 1})) },
        BulkAction::UpdateTwin { twin: tags(json!({"a": 2})), precondition: Precondition::None },
        BulkAction::Delete { precondition: Precondition::None },
    ];
    for action in items {
        for done in test.hub.device_bulk(&writer, vec![item(action)]).await.expect("carried out") {
            done.expect("done");
        }
    }
    test.hub.identity_delete(&owner, &id("d"), &Precondition::None).await.expect("deleted");
    let expected = [
        json!(["policy:iothubowner", "createDeviceIdentity", "d"]),
        json!(["policy:iothubowner", "createDeviceIdentity", "d/m"]),
        json!(["policy:registryReadWrite", "createDeviceIdentity", "bulk"]),
        json!(["policy:registryReadWrite", "deleteDeviceIdentity", "bulk"]),
        json!(["policy:iothubowner", "deleteDeviceIdentity", "d/m"]),
        json!(["policy:iothubowner", "deleteDeviceIdentity", "d"]),
    ];
    assert_eq!(fed(&test, EventSource::Lifecycle, start).await.0, expected);
    let changed = [json!(["policy:registryReadWrite", [["tags.a", 1, 2, null]]])];
    assert_eq!(twins(&test, start).await.0, changed);
}

#[tokio::test(start_paused = true)]
async fn jobs_sign_what_they_wrote() {
    let test = TestHub::start().await;
    test.register("d").await;
    write(&test, "d", desired(json!({"rate": 1}))).await;
    let start = test.hub.events_end();
    let job = patching("ring-1", "*", json!({"rate": 2}));
    test.hub.job_create(&test.owner(), job).await.expect("created");
    let mut watch = test.hub.events_watch();
    let told = async {
        loop {
            let end = test.hub.events_end();
            let (told, _) = twins(&test, start).await;
            if !told.is_empty() {
                return told;
            }
            watch.grown(end).await;
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(60), told).await.expect("the job writes in time");
    assert_eq!(told, [json!(["job:ring-1", [["properties.desired.rate", 1, 2, null]]])]);
}

#[tokio::test(start_paused = true)]
async fn configurations_sign_what_they_wrote_and_took_away() {
    let test = TestHub::start().await;
    test.register("d").await;
    let values = |values: Value| device_content(values);
    let low = values(json!({"properties.desired.rate": 5, "properties.desired.low": true}));
    create(&test, spec("low", "tags.site = 'a'", 1, low)).await;
    create(&test, spec("high", "tags.ring = 1", 2, values(json!({"properties.desired.rate": 9})))).await;
    at_rest(&test).await;

    let start = test.hub.events_end();
    write(&test, "d", tags(json!({"site": "a"}))).await;
    let (told, reached) = twins(&test, start).await;
    let entered = [
        json!(["policy:iothubowner", [["tags.site", null, "a", null]]]),
        json!([
            "configuration:low",
            [["properties.desired.low", null, true, "low"], ["properties.desired.rate", null, 5, "low"]]
        ]),
    ];
    assert_eq!(told, entered);

    write(&test, "d", tags(json!({"ring": 1}))).await;
    let (told, reached) = twins(&test, reached).await;
    assert_eq!(told[1], json!(["configuration:high", [["properties.desired.rate", 5, 9, "high"]]]));

    write(&test, "d", tags(json!({"site": null, "ring": null}))).await;
    let (told, reached) = twins(&test, reached).await;
    let left = json!([
        "hub",
        [["properties.desired.low", true, null, "low"], ["properties.desired.rate", 9, null, "high"]]
    ]);
    assert_eq!(told[1], left, "two configurations at once: each path names its own");

    write(&test, "d", tags(json!({"site": "a"}))).await;
    let (_, reached) = twins(&test, reached).await;
    test.hub.configuration_delete(&test.owner(), &name("low"), &Precondition::None).await.expect("deleted");
    at_rest(&test).await;
    let (told, _) = twins(&test, reached).await;
    let gone = [json!([
        "configuration:low",
        [["properties.desired.low", true, null, "low"], ["properties.desired.rate", 5, null, "low"]]
    ])];
    assert_eq!(told, gone);
    let actor = Actor::parse(told[0][0].as_str().expect("text"));
    assert_eq!(actor, Some(Actor::Configuration(name("low"))));
}
