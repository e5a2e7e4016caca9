//! What a well-behaved device sees: CONNACK codes, twins, methods, telemetry, wills, takeover, expiry.

use std::time::Duration;

use hub_domain::event::{EventKind, EventSource};
use hub_domain::id::TwinId;
use hub_domain::identity::{IdentitySpec, Status};
use hub_domain::message::Message;
use hub_domain::method::MethodCall;
use hub_domain::twin::{TwinPatch, TwinUpdate, WriteMode};
use hub_domain::version::Precondition;
use hub_engine::events::EventFilter;
use hub_mqtt::Config;
use serde_json::{Value, json};

use crate::client::{Options, Server, connect, packet};

fn id(name: &str) -> TwinId {
    let (device, module) = name.split_once('/').map_or((name, None), |(d, m)| (d, Some(m)));
    TwinId::parse(device, module).expect("a valid id")
}

async fn set_desired(server: &Server, name: &str, value: Value) {
    let update = TwinUpdate { tags: None, desired: Some(TwinPatch::from_value(value).expect("a patch")) };
    let owner = server.test.owner();
    server
        .test
        .hub
        .twin_update(&owner, &id(name), &update, WriteMode::Patch, &Precondition::None)
        .await
        .expect("written");
}

/// All telemetry so far; waits until there are `count` messages.
async fn telemetry(server: &Server, count: usize) -> Vec<Message> {
    let filter = EventFilter { sources: vec![EventSource::Telemetry], device: None };
    for _ in 0..2000 {
        let page =
            server.test.hub.events_read(&server.test.owner(), &filter, None, 100).await.expect("events");
        if page.events.len() >= count {
            let message = |kind: EventKind| match kind {
                EventKind::Telemetry(message) => message,
                other => panic!("{other:?}"),
            };
            return page.events.into_iter().map(|(_, event)| message(event.kind)).collect();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{count} messages did not come");
}

#[tokio::test]
async fn an_overloaded_hub_tells_devices_to_come_again_later() {
    // No turn comes that soon, so that every device meets what those meet that come to a hub with too much to do.
    let server = Server::start_with(Config { turn_late_max: Duration::ZERO, ..Config::default() }).await;
    let (_, token) = server.test.register("d").await;
    let (code, mut client) = server.connect_with("d", &token, Options::default()).await;
    assert_eq!(code, 3, "the clients try again, and not with other credentials");
    assert!(client.packet().await.is_none(), "the connection is closed");
    let view = server.test.hub.twin_get(&server.test.owner(), &id("d")).expect("a twin");
    assert!(!view.connection.connected, "it was not let in");
}

#[tokio::test]
async fn each_refusal_has_its_code() {
    let server = Server::start().await;
    let (_, token) = server.test.register("d").await;
    let (_, other) = server.test.register("e").await;
    let code = async |name: &str, token: &str| server.connect_with(name, token, Options::default()).await.0;
    assert_eq!(code("d", &token).await, 0);
    assert_eq!(code("d", &other).await, 5);
    assert_eq!(code("none", &token).await, 5);
    assert_eq!(code("d", "nonsense").await, 5);
    assert_eq!(code("d", "").await, 5);
    let off = IdentitySpec { status: Some(Status::Disabled), ..IdentitySpec::default() };
    let owner = server.test.owner();
    server.test.hub.identity_update(&owner, &id("e"), off, &Precondition::Exists).await.expect("disabled");
    let disabled =
        server.test.device_token(&id("e"), hub_domain::time::Timestamp::from_seconds(i64::from(i32::MAX)));
    assert_eq!(code("e", &disabled).await, 3, "a disabled device tries again later");
    let mut client = server.raw().await;
    client.send(&connect("other", "hub.test/d/?api-version=2021-04-12", &token, &Options::default())).await;
    assert_eq!(client.packet().await.expect("CONNACK").1[1], 5, "client id and user name differ");
    let mut client = server.raw().await;
    client.send(b"\x10\x0c\x00\x06MQIsdp\x03\x02\x00\x3c").await;
    assert_eq!(client.packet().await.expect("CONNACK").1[1], 1, "another protocol");
    client.closed().await;
}

#[tokio::test]
async fn a_twin_is_answered_before_any_subscription_and_patched_with_versions() {
    let server = Server::start().await;
    let mut device = server.device("d").await;
    device.publish("$iothub/twin/GET/?$rid=first", 1, b" ").await;
    let (topic, body) = device.published().await;
    assert_eq!(topic, "$iothub/twin/res/200/?$rid=first");
    let twin: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(twin, json!({"desired": {"$version": 1}, "reported": {"$version": 1}}));
    assert_eq!(device.packet().await.expect("PUBACK"), (0x40, vec![0, 7].into()));
    let patch = "$iothub/twin/PATCH/properties/reported/?$rid=";
    device.publish(&format!("{patch}2"), 0, br#"{"fw":{"v":"1","old":null},"$version":9}"#).await;
    assert_eq!(device.published().await, ("$iothub/twin/res/204/?$rid=2&$version=2".into(), "".into()));
    device.publish(&format!("{patch}3&$version=1"), 0, br#"{"a":1}"#).await;
    let (topic, body) = device.published().await;
    assert_eq!(topic, "$iothub/twin/res/412/?$rid=3");
    assert_eq!(serde_json::from_slice::<Value>(&body).expect("JSON")["errorCode"], json!(412001));
    for (bad, part) in
        [("{", "JSON"), ("[1]", "object"), (r#"{"a.b":1}"#, "'.'"), (r#"{"a":[null]}"#, "null")]
    {
        device.publish(&format!("{patch}4"), 0, bad.as_bytes()).await;
        let (topic, body) = device.published().await;
        assert_eq!(topic, "$iothub/twin/res/400/?$rid=4", "{bad}");
        let error: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(error["errorCode"], json!(400004));
        assert!(error["message"].as_str().expect("a text").contains(part), "{error}");
    }
    let twin = server.test.hub.twin_get(&server.test.owner(), &id("d")).expect("a twin").twin;
    assert_eq!(
        (Value::Object(twin.reported.values.clone()), twin.reported.version),
        (json!({"fw": {"v": "1"}}), 2)
    );
}

#[tokio::test]
async fn desired_changes_and_methods_reach_a_stored_subscription() {
    let server = Server::start().await;
    let mut device = server.device("d").await;
    let filters =
        [("$iothub/twin/PATCH/properties/desired/#", 2), ("$iothub/methods/POST/#", 0), ("foreign/#", 1)];
    assert_eq!(&device.subscribe(&filters).await[..], [1, 0, 0x80]);
    device.send(&packet(0xe0, &[])).await;
    device.closed().await;
    let token =
        server.test.device_token(&id("d"), hub_domain::time::Timestamp::from_seconds(i64::from(i32::MAX)));
    let (code, mut device) = server.connect_with("d", &token, Options::default()).await;
    assert_eq!(code, 0);
    set_desired(&server, "d", json!({"rate": 5, "old": null})).await;
    let (topic, body) = device.published().await;
    assert_eq!(topic, "$iothub/twin/PATCH/properties/desired/?$version=2");
    assert_eq!(
        serde_json::from_slice::<Value>(&body).expect("JSON"),
        json!({"rate": 5, "old": null, "$version": 2})
    );
    for (given, sent, answer, got) in [
        (Some("{ \"a\" :  1 }"), "{ \"a\" :  1 }", "[1]", "[1]"),
        (None, "null", "", "null"),
        (Some("\"x\""), "\"x\"", "not JSON", "\"not JSON\""),
    ] {
        let call = MethodCall::new("reboot", given.map(String::from), None, None).expect("a call");
        let owner = server.test.owner();
        let device_id = id("d");
        let answering = async {
            let (topic, body) = device.published().await;
            let rid = topic.strip_prefix("$iothub/methods/POST/reboot/?$rid=").expect("a method's topic");
            assert_eq!(body, sent.as_bytes(), "the payload's bytes are passed on");
            device.publish(&format!("$iothub/methods/res/-7/?$rid={rid}"), 0, answer.as_bytes()).await;
        };
        let (result, ()) = tokio::join!(server.test.hub.method_call(&owner, &device_id, call), answering);
        let result = result.expect("an answer");
        assert_eq!((result.status, result.payload.as_str()), (-7, got));
    }
}

#[tokio::test]
async fn telemetry_keeps_its_properties_and_a_will_is_sent_only_on_an_abrupt_end() {
    let server = Server::start().await;
    let will = Some(("devices/d/messages/events/why=lost", "gone"));
    let (_, token) = server.test.register("d").await;
    let options = Options { will, ..Options::default() };
    let (_, mut device) = server.connect_with("d", &token, options).await;
    device.publish("devices/d/messages/events/%24.ct=application%2Fjson&k=a+b/c", 1, b"{}").await;
    assert_eq!(device.packet().await.expect("PUBACK").0, 0x40);
    device.send(&packet(0xe0, &[])).await;
    device.closed().await;
    let (_, device) = server.connect_with("d", &token, options).await;
    drop(device);
    let messages = telemetry(&server, 2).await;
    assert_eq!(messages[0].system_property("content-type"), Some("application/json"));
    assert_eq!(messages[0].properties, [("k".to_string(), "a+b/c".to_string())]);
    assert_eq!(messages[1].body, b"gone");
    let expected =
        [("why", "lost"), ("iothub-MessageType", "Will")].map(|(k, v)| (k.to_string(), v.to_string()));
    assert_eq!(messages[1].properties, expected);
}

#[tokio::test]
async fn a_newer_connection_a_deletion_and_an_expired_token_end_the_connection() {
    let server = Server::start().await;
    let (_, token) = server.test.register("d").await;
    let (_, mut first) = server.connect_with("d", &token, Options::default()).await;
    let (_, mut second) = server.connect_with("d", &token, Options::default()).await;
    first.closed().await;
    second.send(&packet(0xc0, &[])).await;
    assert_eq!(second.packet().await.expect("PINGRESP").0, 0xd0, "the newer one lives");
    server
        .test
        .hub
        .identity_delete(&server.test.owner(), &id("d"), &Precondition::None)
        .await
        .expect("deleted");
    second.closed().await;
    server.test.register("e").await;
    // The allowance for clocks that differ has one second left.
    let expiry = hub_domain::time::Timestamp::from_seconds(hub_testkit::START_SECONDS - 299);
    let (code, mut device) =
        server.connect_with("e", &server.test.device_token(&id("e"), expiry), Options::default()).await;
    assert_eq!(code, 0);
    device.closed().await;
}

#[tokio::test]
async fn a_module_has_its_own_twin() {
    let server = Server::start().await;
    server.test.register("d").await;
    let mut module = server.device("d/m").await;
    assert_eq!(&module.subscribe(&[("$iothub/twin/PATCH/properties/desired/#", 0)]).await[..], [0]);
    set_desired(&server, "d", json!({"not": "mine"})).await;
    set_desired(&server, "d/m", json!({"mine": true})).await;
    let (_, body) = module.published().await;
    assert_eq!(serde_json::from_slice::<Value>(&body).expect("JSON"), json!({"mine": true, "$version": 2}));
}
