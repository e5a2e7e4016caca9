//! What nobody should send: each ends that connection alone, changes nothing, and leaves the others unharmed.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::client::{Client, Options, Server, packet, text};

/// That another device is served as before.
async fn unharmed(witness: &mut Client) {
    witness.publish("$iothub/twin/GET/?$rid=w", 0, b"").await;
    assert_eq!(witness.published().await.0, "$iothub/twin/res/200/?$rid=w");
}

#[tokio::test]
async fn packets_that_break_rules_close_their_connection() {
    let server = Server::start().await;
    let mut witness = server.device("witness").await;
    let (_, token) = server.test.register("d").await;
    let topic = |topic: &str| packet(0x30, &text(topic));
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("a second CONNECT", crate::client::connect("d", "hub.test/d", "x", &Options::default())),
        ("unknown type", vec![0xf0, 0]),
        ("too long a length", vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("too large", vec![0x30, 0xff, 0xff, 0xff, 0x7f]),
        ("topic that is not UTF-8", packet(0x30, b"\x00\x02\xc3\x28")),
        ("QoS 2", packet(0x34, &[text("devices/d/messages/events/"), vec![0, 1]].concat())),
        ("another device's topic", topic("devices/witness/messages/events/")),
        ("a module's topic", topic("devices/d/modules/m/messages/events/")),
        ("an unknown topic", topic("a/b")),
        ("a GET without $rid", topic("$iothub/twin/GET/")),
        ("an unknown operation", topic("$iothub/twin/DELETE/?$rid=1")),
        (
            "a message over 256 KiB",
            packet(0x30, &[text("devices/d/messages/events/"), vec![0; 262_145]].concat()),
        ),
    ];
    for (what, bytes) in bad {
        let (code, mut client) = server.connect_with("d", &token, Options::default()).await;
        assert_eq!(code, 0, "{what}");
        client.try_send(&bytes).await;
        client.closed().await;
        unharmed(&mut witness).await;
    }
    let mut client = server.raw().await;
    client.send(&packet(0xc0, &[])).await;
    client.closed().await;
    let filter = hub_engine::events::EventFilter {
        sources: vec![hub_domain::event::EventSource::Telemetry],
        device: None,
    };
    let page = server.test.hub.events_read(&server.test.owner(), &filter, None, 10).await.expect("events");
    assert_eq!(page.events, [], "nothing of it was taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_silent_connections_keep_nobody_out() {
    let server = Server::start().await;
    let mut silent = Vec::new();
    for _ in 0..1000 {
        silent.push(TcpStream::connect(server.address).await.expect("connected"));
    }
    let mut device = server.device("d").await;
    unharmed(&mut device).await;
    // The hub has not said anything to the silent ones either.
    let mut byte = [0];
    let said = tokio::time::timeout(Duration::from_millis(1), silent[0].read(&mut byte)).await;
    assert!(said.is_err());
}

#[tokio::test]
async fn a_client_that_sends_without_reading_is_bounded_and_harms_nobody() {
    let server = Server::start().await;
    let mut witness = server.device("witness").await;
    let mut rude = server.device("rude").await;
    // Asks for its twin again and again and never reads an answer: the hub stops reading, and memory stays bounded.
    let request = packet(0x30, &text("$iothub/twin/GET/?$rid=r"));
    let flood = request.repeat(1000);
    let mut blocked = false;
    for _ in 0..2000 {
        if tokio::time::timeout(Duration::from_millis(200), rude.try_send(&flood)).await.is_err() {
            blocked = true;
            break;
        }
    }
    assert!(blocked, "the hub must stop reading from a client that does not read");
    unharmed(&mut witness).await;
}
