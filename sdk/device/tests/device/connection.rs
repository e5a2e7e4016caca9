//! The connection: nothing that was queued is lost when the line is cut, and a refusal is told.

use fleetyard_device::{ConnectionState, DeviceClient, Error, Message};
use serde_json::json;

use crate::hub::{Hub, Trick};
use crate::soon;

fn message(number: usize) -> Message {
    Message { body: number.to_string().into_bytes(), ..Message::default() }
}

/// Sends messages while the hub does these things, and expects each to arrive at least once.
async fn all_arrive(tricks: &[Trick]) {
    let hub = Hub::start(tricks).await;
    let (client, _inbox) = DeviceClient::start(hub.device(), hub.tls.client.clone()).expect("started");
    // Before it is connected, and more than may be unacknowledged at once.
    for number in 0..200 {
        soon("queued", client.send(message(number))).await.expect("queued");
    }
    let mut got = hub.messages(200).await;
    got.sort();
    got.dedup();
    assert_eq!(got.len(), 200, "{tricks:?}");
    client.close().await;
    assert_eq!(*client.state().borrow(), ConnectionState::Closed);
}

#[tokio::test]
async fn messages_survive_cuts_without_a_session() {
    all_arrive(&[]).await;
    all_arrive(&[Trick::Refuse(3), Trick::Refuse(3)]).await;
    all_arrive(&[Trick::CutAtMessage, Trick::CutAtMessage, Trick::CutAtMessage]).await;
    all_arrive(&[Trick::CutAtMessage, Trick::Refuse(3), Trick::CutAtMessage]).await;
}

#[tokio::test]
async fn twin_requests_survive_cuts() {
    let hub = Hub::start(&[Trick::CutAtTwin, Trick::CutAtTwin]).await;
    let (client, _inbox) = DeviceClient::start(hub.device(), hub.tls.client.clone()).expect("started");
    let version = soon("reported", client.report(&json!({ "a": 1, "b": null }))).await;
    assert_eq!(version, Ok(2));
    hub.play(Trick::CutAtTwin);
    let twin = soon("read", client.twin()).await.expect("a twin");
    assert_eq!((twin.reported["a"].clone(), twin.desired["$version"].clone()), (json!(1), json!(1)));
    client.close().await;
    assert_eq!(client.twin().await, Err(Error::Closed));
}

#[tokio::test]
async fn a_refused_device_is_told_and_comes_back_later() {
    let hub = Hub::start(&[Trick::Refuse(5)]).await;
    let (client, _inbox) = DeviceClient::start(hub.device(), hub.tls.client.clone()).expect("started");
    let refused = soon("refused", client.connected()).await;
    assert_eq!(refused, Err(Error::Refused("NotAuthorized".into())));
    let mut state = client.state();
    soon("connected", state.wait_for(|state| *state == ConnectionState::Connected)).await.expect("running");
}

#[tokio::test]
async fn a_key_that_is_not_base64_is_refused_before_connecting() {
    let hub = Hub::start(&[]).await;
    let mut device = hub.device();
    device.shared_access_key = Some("!".into());
    let Err(error) = DeviceClient::start(device, hub.tls.client.clone()) else { panic!("must be refused") };
    assert!(error.to_string().contains("base64"), "{error}");
}
