//! Devices that send without waiting for acknowledgements: what arrives together is taken together, in order, and what is
//! refused takes nothing with it that came before.

use bytes::Bytes;
use hub_domain::event::{EventKind, EventSource, Position};
use hub_engine::events::EventFilter;

use crate::client::{Client, Options, Server, packet, publish, text};

const TOPIC: &str = "devices/d/messages/events/";

/// All telemetry so far: where it stands, and its bodies.
async fn telemetry(server: &Server) -> Vec<(Position, Vec<u8>)> {
    let filter = EventFilter { sources: vec![EventSource::Telemetry], device: None };
    let page = server.test.hub.events_read(&server.test.owner(), &filter, None, 1000).await.expect("events");
    let body = |kind: EventKind| match kind {
        EventKind::Telemetry(message) => message.body,
        other => panic!("{other:?}"),
    };
    page.events.into_iter().map(|(position, event)| (position, body(event.kind))).collect()
}

/// Messages at QoS 1 with these numbers, which are their packets' ids and bodies.
fn messages(numbers: std::ops::RangeInclusive<u16>) -> Vec<u8> {
    numbers.flat_map(|number| publish(TOPIC, 1, number, number.to_string().as_bytes())).collect()
}

async fn acknowledged(device: &mut Client, numbers: std::ops::RangeInclusive<u16>) {
    for number in numbers {
        let expected = Bytes::copy_from_slice(&number.to_be_bytes());
        assert_eq!(device.packet().await, Some((0x40, expected)), "message {number}");
    }
}

fn bodies(of: std::ops::RangeInclusive<u16>) -> Vec<Vec<u8>> {
    of.map(|number| number.to_string().into_bytes()).collect()
}

#[tokio::test]
async fn messages_that_arrive_together_share_commits_and_keep_their_order() {
    let server = Server::start().await;
    let mut device = server.device("d").await;
    // All of it is in one TLS record, so it arrives at once.
    let get = publish("$iothub/twin/GET/?$rid=after", 0, 0, b"");
    let unacknowledged = publish(TOPIC, 0, 0, b"101");
    device.send(&[messages(1..=100), unacknowledged, get, messages(102..=103)].concat()).await;
    acknowledged(&mut device, 1..=100).await;
    assert_eq!(device.published().await.0, "$iothub/twin/res/200/?$rid=after");
    acknowledged(&mut device, 102..=103).await;

    let (positions, told): (Vec<_>, Vec<_>) = telemetry(&server).await.into_iter().unzip();
    assert_eq!(told, bodies(1..=103));
    let mut commits: Vec<(u64, usize)> = Vec::new();
    for Position { commit, .. } in positions {
        match commits.last_mut() {
            Some((last, messages)) if *last == commit => *messages += 1,
            _ => commits.push((commit, 1)),
        }
    }
    let runs: Vec<usize> = commits.into_iter().map(|(_, messages)| messages).collect();
    assert_eq!(runs, [64, 37, 2], "a run ends when it is full, and when the device asks for something else");
}

#[tokio::test]
async fn what_is_refused_ends_the_connection_after_what_came_before() {
    let foreign = "devices/e/messages/events/";
    let large = vec![0; hub_domain::limits::MESSAGE_BYTES_MAX + 1];
    let cases = [
        ("too large a message", publish(TOPIC, 1, 4, &large)),
        ("another device's topic", publish(foreign, 1, 4, b"4")),
        ("an unknown topic", publish("a/b", 1, 4, b"4")),
        ("QoS 2", publish(TOPIC, 2, 4, b"4")),
        ("a packet that breaks rules", packet(0x36, &text(TOPIC))),
    ];
    for (what, bad) in cases {
        let server = Server::start().await;
        let (_, token) = server.test.register("d").await;
        let (_, mut device) = server.connect_with("d", &token, Options::default()).await;
        device.try_send(&[messages(1..=3), bad, messages(5..=6)].concat()).await;
        acknowledged(&mut device, 1..=3).await;
        assert_eq!(device.packet().await, None, "{what} ends the connection");
        let told: Vec<_> = telemetry(&server).await.into_iter().map(|(_, body)| body).collect();
        assert_eq!(told, bodies(1..=3), "{what}");
    }
}

#[tokio::test]
async fn what_came_before_a_farewell_is_taken_and_the_will_is_not_sent() {
    let server = Server::start().await;
    let (_, token) = server.test.register("d").await;
    let options = Options { will: Some((TOPIC, "gone")), ..Options::default() };
    let (_, mut device) = server.connect_with("d", &token, options).await;
    device.send(&[messages(1..=3), packet(0xe0, &[]), messages(4..=5)].concat()).await;
    acknowledged(&mut device, 1..=3).await;
    assert_eq!(device.packet().await, None);
    let told: Vec<_> = telemetry(&server).await.into_iter().map(|(_, body)| body).collect();
    assert_eq!(told, bodies(1..=3));
}
