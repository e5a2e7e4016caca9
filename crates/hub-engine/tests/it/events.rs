//! The event log: what is told, in which order, to whom, and for how long.

use std::time::Duration;

use hub_domain::event::{EventKind, EventSource, Position};
use hub_domain::message::Message;
use hub_domain::twin::WriteMode;
use hub_domain::version::Precondition;
use hub_engine::events::EventFilter;
use hub_engine::{Credential, Error};
use hub_testkit::TestHub;
use serde_json::json;

use crate::{desired, id, patch};

async fn told(test: &TestHub, filter: EventFilter) -> Vec<String> {
    let page = test.hub.events_read(&test.owner(), &filter, None, 1000).await.expect("events");
    assert!(page.at_end);
    let name = |kind: &EventKind| kind.operation().unwrap_or("telemetry").to_string();
    page.events.iter().map(|(_, event)| format!("{} {}", name(&event.kind), event.id)).collect()
}

#[tokio::test]
async fn everything_that_happens_is_told_in_order() {
    let test = TestHub::start().await;
    let (device, token) = test.register("d").await;
    test.register("other").await;
    let who = test.hub.authenticate_device(&device, Credential::Token(&token)).expect("its own token");
    let (sender, _queue) = hub_engine::downlinks(8);
    let attachment = test.hub.attach(&who, &device, false, sender).await.expect("attached");
    let message = Message { body: b"21".to_vec(), ..Message::default() };
    test.hub.telemetry_send(&who, &device, vec![message]).await.expect("sent");
    let update = desired(json!({"a": null, "b": 1}));
    let owner = test.owner();
    test.hub
        .twin_update(&owner, &device, &update, WriteMode::Patch, &Precondition::None)
        .await
        .expect("patched");
    test.hub.twin_patch_reported(&who, &device, &patch(json!({"c": 2})), None).await.expect("reported");
    test.hub
        .twin_update(&owner, &device, &update, WriteMode::Replace, &Precondition::None)
        .await
        .expect("replaced");
    test.hub.identity_delete(&owner, &device, &Precondition::None).await.expect("deleted");
    drop(attachment);
    let filter = EventFilter { device: Some(device.device.clone()), ..EventFilter::default() };
    let expected = [
        "createDeviceIdentity d",
        "deviceConnected d",
        "telemetry d",
        "updateTwin d",
        "updateTwin d",
        "replaceTwin d",
        "deleteDeviceIdentity d",
    ];
    assert_eq!(told(&test, filter).await, expected);
    let telemetry = EventFilter { sources: vec![EventSource::Telemetry], device: None };
    let page = test.hub.events_read(&owner, &telemetry, None, 10).await.expect("events");
    let [(position, event)] = &page.events[..] else { panic!("one message was sent") };
    let EventKind::Telemetry(message) = &event.kind else { panic!("it is telemetry") };
    assert!(
        message.system_property("iothub-connection-auth-method").is_some_and(|text| text.contains("\"sas\""))
    );
    let after = test.hub.events_read(&owner, &telemetry, Some(*position), 10).await.expect("events");
    assert!(after.events.is_empty() && after.reached > *position);
}

#[tokio::test]
async fn messages_that_are_sent_together_are_taken_in_one_commit_or_not_at_all() {
    let test = TestHub::start().await;
    let (device, token) = test.register("d").await;
    let who = test.hub.authenticate_device(&device, Credential::Token(&token)).expect("its own token");
    let message = |body: &[u8]| Message { body: body.to_vec(), ..Message::default() };
    let large = vec![0; hub_domain::limits::MESSAGE_BYTES_MAX + 1];
    let before = test.hub.events_end();
    let refused = vec![message(b"0"), message(&large), message(b"2")];
    let error = test.hub.telemetry_send(&who, &device, refused).await.expect_err("one is too large");
    assert!(matches!(error, Error::TooLarge(_)), "{error}");
    let other = test.register("other").await.0;
    let error = test.hub.telemetry_send(&who, &other, vec![message(b"0")]).await.expect_err("not its own");
    assert!(matches!(error, Error::Forbidden(_)), "{error}");
    let bodies = [b"a", b"b", b"c"];
    let messages = bodies.iter().map(|body| message(*body)).collect();
    test.hub.telemetry_send(&who, &device, messages).await.expect("sent");
    let telemetry = EventFilter { sources: vec![EventSource::Telemetry], device: None };
    let page = test.hub.events_read(&test.owner(), &telemetry, Some(before), 10).await.expect("events");
    let commit = page.events[0].0.commit;
    for (place, ((position, event), body)) in page.events.iter().zip(bodies).enumerate() {
        assert_eq!(*position, Position { commit, place: place as u32 });
        let EventKind::Telemetry(message) = &event.kind else { panic!("it is telemetry") };
        assert_eq!(message.body, body);
    }
    assert_eq!((page.events.len(), test.hub.numbers().telemetry_messages), (3, 3));
}

#[tokio::test]
async fn a_reader_waits_for_more_and_sees_it_in_queries() {
    let test = TestHub::start().await;
    let owner = test.owner();
    let end = test.hub.events_end();
    let mut watch = test.hub.events_watch();
    let reader = async {
        watch.grown(end).await;
        let page =
            test.hub.events_read(&owner, &EventFilter::default(), Some(end), 10).await.expect("events");
        let found = test
            .hub
            .query(&owner, "SELECT * FROM devices WHERE deviceId = 'd'", None, None)
            .await
            .expect("a page");
        (page.events.len(), found.rows.len())
    };
    let (seen, _) = tokio::join!(reader, test.register("d"));
    assert_eq!(seen, (1, 1));
}

#[tokio::test(start_paused = true)]
async fn old_events_go_and_their_readers_are_told() {
    let test = TestHub::start().await;
    let owner = test.owner();
    test.register("old").await;
    let early = Position { commit: 0, place: 0 };
    test.advance(Duration::from_secs(25 * 3600));
    test.register("new").await;
    tokio::time::sleep(hub_engine::config::EVENT_PRUNE_INTERVAL * 2).await;
    let filter = EventFilter::default();
    let gone = test.hub.events_read(&owner, &filter, Some(early), 10).await.expect_err("no longer kept");
    let Error::PositionGone { oldest } = gone else { panic!("{gone}") };
    let page = test.hub.events_read(&owner, &filter, Some(oldest), 10).await.expect("events");
    assert_eq!(page.events.iter().map(|(_, event)| event.id.clone()).collect::<Vec<_>>(), [id("new")]);
}

#[tokio::test(start_paused = true)]
async fn devices_of_a_killed_hub_are_told_gone() {
    let test = TestHub::start().await;
    let (device, token) = test.register("d").await;
    let who = test.hub.authenticate_device(&device, Credential::Token(&token)).expect("its own token");
    let (sender, _queue) = hub_engine::downlinks(8);
    let _attachment = test.hub.attach(&who, &device, false, sender).await.expect("attached");
    let again = TestHub::on(test.store.clone()).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let filter = EventFilter { sources: vec![EventSource::Connection], device: None };
    assert_eq!(told(&again, filter).await, ["deviceConnected d", "deviceDisconnected d"]);
}
