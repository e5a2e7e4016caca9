//! The end of a device's life with the real program: its keys fail on every protocol, its connections end, and the command
//! line retires, restores, replaces and exports. Sockets are spoken to byte by byte, so that no client retries for a test.

use std::time::{SystemTime, UNIX_EPOCH};

use hub_domain::sas::{SymmetricKey, make_token};
use hub_domain::time::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::{Hub, dial, folder, soon};

/// CONNACK of a connection that is taken.
const ACCEPTED: u8 = 0;
/// CONNACK of one that proves nothing.
const NOT_AUTHORIZED: u8 = 5;

/// The address behind a word such as `mqtt` of what the hub said when it was ready.
fn address(hub: &Hub, word: &str) -> String {
    let ready = hub.printed.last().expect("it said something");
    let found = ready.split(' ').find_map(|part| part.strip_prefix(&format!("{word}=")));
    found.unwrap_or_else(|| panic!("no {word} in {ready}")).to_string()
}

/// CONNECT as the device with this token, as D 1.2 has it.
fn connect(device: &str, token: &str) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
    let user = format!("localhost/{device}/?api-version=2021-04-12");
    let body = [text("MQTT"), vec![4, 0xc2, 0, 60], text(device), text(&user), text(token)].concat();
    assert!((128..16_384).contains(&body.len()), "the length has two bytes");
    let length = [(body.len() % 128) as u8 | 0x80, (body.len() / 128) as u8];
    [&[0x10], &length[..], &body].concat()
}

/// Connects over MQTT; gives the code of CONNACK and the connection.
async fn mqtt(hub: &Hub, device: &str, token: &str) -> (u8, TlsStream<TcpStream>) {
    let mut stream = dial(&address(hub, "mqtt"), &hub.data.join("tls/ca.pem")).await;
    stream.write_all(&connect(device, token)).await.expect("written");
    let mut answer = [0; 4];
    soon("CONNACK", stream.read_exact(&mut answer)).await.expect("an answer");
    assert_eq!(answer[..2], [0x20, 2]);
    (answer[3], stream)
}

/// Connects over MQTT in WebSocket frames; gives the code of CONNACK and the connection.
async fn websocket(hub: &Hub, device: &str, token: &str) -> (u8, TlsStream<TcpStream>) {
    let mut stream = dial(&address(hub, "https"), &hub.data.join("tls/ca.pem")).await;
    let upgrade = "GET /$iothub/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await.expect("written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("the upgrade", stream.read_u8()).await.expect("an answer"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    let packet = connect(device, token);
    // A binary frame with a length of two bytes and a mask of zeros, which changes nothing.
    let length = u16::try_from(packet.len()).expect("short").to_be_bytes();
    let frame = [&[0x82, 0xfe], &length[..], &[0; 4], &packet].concat();
    stream.write_all(&frame).await.expect("written");
    let mut answer = [0; 6];
    soon("CONNACK", stream.read_exact(&mut answer)).await.expect("an answer");
    assert_eq!(answer[..4], [0x82, 4, 0x20, 2]);
    (answer[5], stream)
}

/// A token with the device's own key.
fn token(device: &Value) -> String {
    let key = device["authentication"]["symmetricKey"]["primaryKey"].as_str().expect("a key");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let resource = format!("localhost/devices/{}", device["deviceId"].as_str().expect("an id"));
    let key = SymmetricKey::parse(key).expect("a key");
    make_token(&resource, &key, Timestamp::from_seconds(now as i64 + 3600), None)
}

/// What HTTPS says to a device that shows its own token.
async fn https(hub: &Hub, path: &str, token: &str) -> String {
    let mut stream = dial(&address(hub, "https"), &hub.data.join("tls/ca.pem")).await;
    let request = format!(
        "GET {path}?api-version=2021-04-12 HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    // How the hub closes does not matter here.
    let _ = soon("an answer", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_string()
}

/// Returns once the hub has ended the connection.
async fn ended(mut stream: TlsStream<TcpStream>) {
    let mut rest = Vec::new();
    let _ = soon("the end of the connection", stream.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn the_key_of_a_retired_device_fails_everywhere_and_its_connections_end() {
    let folder = folder();
    let hub = Hub::start(folder.path()).await;
    let mut devices = Vec::new();
    for id in ["over-mqtt", "over-websocket"] {
        devices.push(hub.json(&["device", "create", id, "--show-keys"]).await);
    }
    let tokens: Vec<_> = devices.iter().map(token).collect();
    let (code, first) = mqtt(&hub, "over-mqtt", &tokens[0]).await;
    assert_eq!(code, ACCEPTED);
    let (code, second) = websocket(&hub, "over-websocket", &tokens[1]).await;
    assert_eq!(code, ACCEPTED);
    let retired =
        hub.expect(0, &["device", "retire", "over-mqtt", "over-websocket", "--reason", "old"]).await;
    assert_eq!(retired.out, "2 of 2 retired\n");
    ended(first).await;
    ended(second).await;
    for (id, token) in ["over-mqtt", "over-websocket"].into_iter().zip(&tokens) {
        assert_eq!(mqtt(&hub, id, token).await.0, NOT_AUTHORIZED, "{id} over MQTT");
        assert_eq!(websocket(&hub, id, token).await.0, NOT_AUTHORIZED, "{id} over WebSocket");
        for path in [format!("/twins/{id}"), format!("/devices/{id}")] {
            assert_eq!(https(&hub, &path, token).await, "HTTP/1.1 401 Unauthorized", "{path}");
        }
    }
    hub.expect(0, &["device", "restore", "over-mqtt"]).await;
    let (code, live) = mqtt(&hub, "over-mqtt", &tokens[0]).await;
    assert_eq!(code, ACCEPTED, "the same key is good again");

    // Other hardware under the same id: the old key fails from then on.
    let replaced = hub.json(&["device", "replace", "over-mqtt", "--keep-id"]).await;
    ended(live).await;
    assert_eq!(mqtt(&hub, "over-mqtt", &tokens[0]).await.0, NOT_AUTHORIZED);
    assert_eq!(websocket(&hub, "over-mqtt", &tokens[0]).await.0, NOT_AUTHORIZED);
    assert_eq!(mqtt(&hub, "over-mqtt", &token(&replaced["device"])).await.0, ACCEPTED);
}

#[tokio::test]
async fn many_are_retired_by_a_condition_or_a_file() {
    let folder = folder();
    let hub = Hub::start(folder.path()).await;
    for id in ["a", "b", "c", "d"] {
        hub.expect(0, &["device", "create", id]).await;
    }
    hub.expect(0, &["twin", "patch", "a", "--tags", r#"{"site":"x"}"#]).await;
    let query = ["device", "retire", "--query", "tags.site = 'x'"];
    let asked = hub.expect(2, &query).await;
    assert!(
        asked.err.contains("1 devices would be retired (a)") && asked.err.contains("--yes"),
        "{}",
        asked.err
    );
    hub.expect(0, &["device", "show", "a"]).await;
    let done = hub.json(&[&query[..], &["--yes", "--restorable-for", "3600"]].concat()).await;
    assert_eq!(done, json!({"done": 1, "failed": []}));

    let list = folder.path().join("ids.txt");
    std::fs::write(&list, "# two of them\nb\n\na\nnobody\nb\n").expect("written");
    let file = list.to_str().expect("text");
    let partly = hub.expect(7, &["device", "retire", "--file", file, "--yes"]).await;
    assert_eq!(partly.out, "1 of 3 retired\n");
    assert!(partly.err.contains("a: the hub answered 409 DeviceRetired"), "{}", partly.err);
    assert!(partly.err.contains("nobody: the hub answered 404 DeviceNotFound"), "{}", partly.err);
    hub.expect(4, &["device", "retire", "a"]).await;
    hub.expect(3, &["device", "retire", "nobody"]).await;
    hub.expect(1, &["device", "retire", "a", "b"]).await;
    hub.expect(2, &["device", "retire"]).await;
    hub.expect(2, &["device", "retire", "c", "--force"]).await;
    hub.expect(6, &["device", "retire", "c", "--erase-method", "wipe", "--erase-timeout", "5"]).await;
    hub.expect(0, &["device", "retire", "c", "--erase-method", "wipe", "--erase-timeout", "5", "--force"])
        .await;
    hub.expect(1, &["device", "retire", "--query", "tags.site ==", "--yes"]).await;

    let taken = hub.expect(4, &["device", "create", "a"]).await;
    assert!(taken.err.contains("was retired at") && taken.err.contains("release the id"), "{}", taken.err);
    let listed = hub.expect(0, &["device", "retired", "list"]).await.out;
    assert_eq!(listed.lines().count(), 4, "{listed}");
    let shown = hub.json(&["device", "retired", "show", "a"]).await;
    assert_eq!(
        (&shown["state"], &shown["documents"][0]["tags"]["site"]),
        (&json!("restorable"), &json!("x"))
    );
    let query = "SELECT COUNT() AS n FROM devices.retired WHERE tags.site = 'x'";
    assert_eq!(hub.json(&["query", query]).await, json!({"n": 1}));
    hub.expect(0, &["device", "restore", "b"]).await;
    hub.expect(3, &["device", "restore", "b"]).await;
    hub.expect(4, &["device", "retired", "release", "a"]).await;
    hub.expect(2, &["device", "retired", "erase", "a"]).await;
    assert!(hub.expect(0, &["device", "retired", "erase", "a", "--yes"]).await.err.starts_with("erased a "));
    hub.expect(3, &["device", "restore", "a"]).await;
    hub.expect(0, &["device", "retired", "release", "a"]).await;
    hub.expect(0, &["device", "create", "a"]).await;
    let told = hub
        .expect(0, &["monitor", "--source", "lifecycle", "--device", "a", "--after", "0.0", "--count", "3"])
        .await;
    for operation in ["eraseDeviceIdentity", "releaseDeviceIdentity", "createDeviceIdentity"] {
        assert!(told.out.contains(operation), "{}", told.out);
    }
}

#[tokio::test]
async fn many_are_retired_in_waves_by_a_job() {
    let folder = folder();
    let hub = Hub::start(folder.path()).await;
    for n in 0..6 {
        hub.expect(0, &["device", "create", &format!("d{n}")]).await;
        hub.expect(0, &["twin", "patch", &format!("d{n}"), "--tags", r#"{"site":"x"}"#]).await;
    }
    let waves = r#"{"waves": [{"devices": 1}, {"rest": true}]}"#;
    let query = ["device", "retire", "--query", "tags.site = 'x' AND deviceId != 'd5'", "--rollout", waves];
    let asked = hub.expect(2, &query).await;
    assert!(asked.err.contains("5 devices would be retired") && asked.err.contains("--yes"), "{}", asked.err);
    let thought = hub.json(&[&query[..], &["--dry-run"]].concat()).await;
    let sizes: Vec<_> =
        thought["waves"].as_array().expect("waves").iter().map(|it| it["deviceCount"].clone()).collect();
    assert_eq!((&thought["deviceCount"], sizes), (&json!(5), vec![json!(1), json!(4)]));
    let done =
        hub.expect(0, &[&query[..], &["--yes", "--job", "leave", "--reason", "end of lease"]].concat()).await;
    assert!(done.out.contains("leave") && done.out.contains("completed"), "{}", done.out);
    let by = "SELECT COUNT() AS n FROM devices.retired WHERE retirement.by = 'job:leave' AND retirement.reason = 'end of lease'";
    assert_eq!(hub.json(&["query", by]).await, json!({"n": 5}));
    hub.expect(0, &["job", "roll-back", "leave"]).await;
    hub.expect(0, &["job", "watch", "leave-rollback"]).await;
    assert_eq!(hub.json(&["query", "SELECT COUNT() AS n FROM devices"]).await, json!({"n": 6}));

    let list = folder.path().join("ids.txt");
    std::fs::write(&list, "d5\nnobody\n").expect("written");
    let file = list.to_str().expect("text");
    let partly = hub.expect(7, &["device", "retire", "--file", file, "--yes", "--rollout", "{}"]).await;
    assert!(partly.out.contains("404001"), "{}", partly.out);
    let bad = hub
        .expect(1, &["device", "retire", "d0", "--yes", "--rollout", r#"{"waves": [{"percent": 90}]}"#])
        .await;
    assert!(bad.err.contains("rollout.waves"), "{}", bad.err);
    hub.expect(0, &["device", "show", "d0"]).await;
}

#[tokio::test]
async fn a_device_is_replaced_and_exported_with_all_that_is_known() {
    let folder = folder();
    let mut hub = Hub::start(folder.path()).await;
    for id in ["old", "new", "used"] {
        hub.expect(0, &["device", "create", id]).await;
    }
    for id in ["old", "used"] {
        hub.expect(0, &["twin", "patch", id, "--tags", r#"{"site":"x"}"#]).await;
    }
    let refused = hub.expect(4, &["device", "replace", "old", "used"]).await;
    assert!(refused.err.contains("has a twin of its own (tags)"), "{}", refused.err);
    hub.expect(2, &["device", "replace", "old"]).await;
    hub.expect(2, &["device", "replace", "old", "new", "--keep-id"]).await;
    hub.expect(1, &["device", "replace", "old", "old"]).await;
    hub.expect(3, &["device", "replace", "old", "nobody"]).await;
    let replaced = hub.expect(0, &["device", "replace", "old", "new", "--reason", "hail"]).await;
    assert!(replaced.out.contains("replaces"), "{}", replaced.out);
    let parts = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        lines.map(|line| line["part"].as_str().expect("a part").to_string()).collect()
    };
    // Everything is durable: another process says the same.
    assert_eq!(hub.stop().await, Some(0));
    let hub = Hub::start(folder.path()).await;
    let told = hub.expect(0, &["device", "export", "new"]).await.out;
    assert_eq!(parts(&told), ["identity", "replaces", "event", "event", "event", "end"], "{told}");
    assert!(!told.contains("primaryKey\":\""), "keys were told unasked");
    let file = folder.path().join("old.jsonl");
    hub.expect(0, &["device", "export", "old", "--output", file.to_str().expect("text")]).await;
    let told = std::fs::read_to_string(&file).expect("written");
    assert_eq!(parts(&told)[0], "retirement");
    assert!(told.contains("\"replacedBy\":\"new\"") && told.contains("\"reason\":\"hail\""), "{told}");
    hub.expect(3, &["device", "export", "nobody"]).await;
}
