//! Artifacts with the links by which devices fetch them, and the stream of events with its way to go on.

use std::time::Duration;

use hub_domain::id::TwinId;
use hub_domain::limits::EVENT_CHANGES_MAX;
use hub_domain::message::Message;
use hub_domain::twin::TwinPatch;
use hub_engine::access::Credential;
use serde_json::json;

use crate::support::{Event, Events, Reply, Server, WAIT};

/// SHA-256 of `content`.
const CONTENT: &str = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";

async fn add(server: &Server, name: &str, content: impl Into<reqwest::Body>) -> String {
    let artifact = server.send_raw("post", &format!("/api/artifacts?name={name}"), content).await.ok();
    artifact["sha256"].as_str().expect("a digest").to_string()
}

async fn grant(server: &Server, digest: &str) -> String {
    let grant = server.send("post", &format!("/api/artifacts/{digest}/grants"), &json!({})).await.ok();
    grant["path"].as_str().expect("a path").to_string()
}

/// Fetches by a link, as a device does: without any other credential.
async fn fetch(server: &Server, link: &str) -> Reply {
    Reply::of(server.anonymous("get", link)).await
}

#[tokio::test]
async fn an_artifact_is_kept_once_by_its_content() {
    let server = Server::start().await;
    let first = server.send_raw("post", "/api/artifacts?name=one", "content").await.ok();
    assert_eq!(
        (&first["sha256"], &first["bytes"], &first["name"]),
        (&json!(CONTENT), &json!(7), &json!("one"))
    );
    let second = server.send_raw("post", "/api/artifacts?name=f%C3%BCr%20zwei", "content").await.ok();
    assert_eq!((&second["sha256"], &second["name"]), (&json!(CONTENT), &json!("für zwei")));
    assert_eq!(server.get("/api/artifacts").await.ok(), json!([second]));
    // Larger than a JSON body may be, and empty.
    let large = add(&server, "large", vec![7; 8 * 1024 * 1024]).await;
    let empty = add(&server, "empty", "").await;
    assert_eq!(fetch(&server, &grant(&server, &large).await).await.body, vec![7; 8 * 1024 * 1024]);
    assert_eq!(fetch(&server, &grant(&server, &empty).await).await.body, b"");

    let before = server.snapshot().await;
    for query in [
        "",
        "?name=",
        "?name=a%00b",
        &format!("?name={}", "x".repeat(257)),
        "?title=x",
        "?name=a&name=b",
        "?name=%FF%FE%00",
    ] {
        server
            .send_raw("post", &format!("/api/artifacts{query}"), "other")
            .await
            .error(400, "ArgumentInvalid");
    }
    for digest in ["x", &CONTENT[1..], &CONTENT.replace('e', "g"), "..%2Fhub.redb", "..%2F..%2Fetc%2Fpasswd"]
    {
        server.delete(&format!("/api/artifacts/{digest}")).await.error(400, "ArgumentInvalid");
        server
            .send("post", &format!("/api/artifacts/{digest}/grants"), &json!({}))
            .await
            .error(400, "ArgumentInvalid");
        let content = format!("/api/artifacts/{digest}/content?expires=9&signature=x");
        fetch(&server, &content).await.error(400, "ArgumentInvalid");
    }
    let unknown = "0".repeat(64);
    server.delete(&format!("/api/artifacts/{unknown}")).await.error(404, "GenericNotFound");
    server
        .send("post", &format!("/api/artifacts/{unknown}/grants"), &json!({}))
        .await
        .error(404, "GenericNotFound");
    assert_eq!(server.snapshot().await, before);

    let link = grant(&server, CONTENT).await;
    server.delete(&format!("/api/artifacts/{CONTENT}")).await.is(204);
    server.delete(&format!("/api/artifacts/{CONTENT}")).await.error(404, "GenericNotFound");
    fetch(&server, &link).await.error(404, "GenericNotFound");
}

#[tokio::test]
async fn a_file_is_fetched_whole_or_in_ranges() {
    let server = Server::start().await;
    let content: Vec<u8> = (0..200_000).map(|n| (n % 251) as u8).collect();
    let digest = add(&server, "image", content.clone()).await;
    let link = grant(&server, &digest).await;
    let etag = format!("\"{digest}\"");
    let get = |method: &'static str, range: &'static str| {
        let request = server.anonymous(method, &link);
        Reply::of(if range.is_empty() { request } else { request.header("Range", range) })
    };
    for (range, part) in [
        ("bytes=0-0", 0..1),
        ("bytes=0-99999", 0..100_000),
        ("bytes=100000-", 100_000..200_000),
        ("bytes=199999-", 199_999..200_000),
        ("bytes=150000-900000", 150_000..200_000),
        ("bytes=-5", 199_995..200_000),
        ("bytes=-900000", 0..200_000),
    ] {
        let reply = get("get", range).await;
        assert_eq!(reply.status, 206, "{range}");
        assert!(reply.body == content[part.clone()], "{range}");
        let expected = format!("bytes {}-{}/200000", part.start, part.end - 1);
        assert_eq!(reply.header("content-range"), Some(expected.as_str()), "{range}");
        assert_eq!(reply.header("etag"), Some(etag.as_str()));
    }
    for range in ["bytes=200000-", "bytes=900000-900001", "bytes=-0"] {
        let reply = get("get", range).await;
        assert_eq!(reply.status, 416, "{range}");
        assert_eq!(reply.header("content-range"), Some("bytes */200000"), "{range}");
    }
    for range in ["", "bytes=5-1", "bytes=0-1,4-5", "lines=0-1", "bytes=a-b", "nonsense"] {
        let reply = get("get", range).await;
        assert_eq!((reply.status, reply.header("accept-ranges")), (200, Some("bytes")), "{range}");
        assert!(reply.body == content, "{range}");
    }
    let head = get("head", "").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("200000"), 0));
}

#[tokio::test]
async fn a_link_opens_its_file_until_its_time_and_nothing_else() {
    let server = Server::start().await;
    let (digest, other) = (add(&server, "one", "content").await, add(&server, "two", "secret").await);
    let link = grant(&server, &digest).await;
    assert_eq!(fetch(&server, &link).await.text(), "content");
    let (path, query) = link.split_once('?').expect("a query");
    let (expires, signature) = query.split_once("&signature=").expect("a signature");
    let expires: i64 = expires.strip_prefix("expires=").and_then(|text| text.parse().ok()).expect("a time");
    let with = |path: &str, expires: &str, signature: &str| {
        format!("{path}?expires={expires}&signature={signature}")
    };
    let mut forged = vec![
        path.to_string(),
        format!("{path}?expires={expires}"),
        format!("{path}?signature={signature}"),
        with(path, &(expires + 1).to_string(), signature),
        with(path, &i64::MAX.to_string(), signature),
        with(path, "never", signature),
        with(path, &expires.to_string(), ""),
        with(path, &expires.to_string(), &signature[1..]),
        with(path, &expires.to_string(), &format!("{signature}A")),
        with(&path.replace(&digest, &other), &expires.to_string(), signature),
        format!("{link}&expires={}", i64::MAX),
    ];
    for at in 0..signature.len() {
        let mut bytes = signature.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'w' { b'g' } else { b'w' };
        forged.push(with(path, &expires.to_string(), std::str::from_utf8(&bytes).expect("ASCII")));
    }
    for link in &forged {
        fetch(&server, link).await.error(401, "IotHubUnauthorized");
        let owner = server.anonymous("get", link).header("Authorization", &server.owner);
        Reply::of(owner).await.error(401, "IotHubUnauthorized");
    }
    for seconds in [json!(0), json!(30 * 24 * 3600 + 1), json!(u64::MAX)] {
        let body = json!({ "expiresInSeconds": seconds });
        let words = server
            .send("post", &format!("/api/artifacts/{digest}/grants"), &body)
            .await
            .error(400, "ArgumentInvalid");
        assert!(words.contains("30 days"), "{words}");
    }
    let body = json!({ "expiresInSeconds": -1 });
    server
        .send("post", &format!("/api/artifacts/{digest}/grants"), &body)
        .await
        .error(400, "IotHubFormatError");

    let body = json!({ "expiresInSeconds": 60 });
    let short = server.send("post", &format!("/api/artifacts/{digest}/grants"), &body).await.ok();
    let short = short["path"].as_str().expect("a path");
    server.test.advance(Duration::from_secs(60));
    fetch(&server, short).await.is(200);
    server.test.advance(Duration::from_secs(1));
    assert!(fetch(&server, short).await.error(401, "IotHubUnauthorized").contains("expired"));
    fetch(&server, &link).await.is(200);
}

/// What an event is about: its kind, its device and its operation.
fn about(event: &Event) -> (&str, &str, &str) {
    let text = |name: &str| event.data[name].as_str().unwrap_or_default();
    (&event.kind, text("deviceId"), text("operation"))
}

#[tokio::test]
async fn events_come_in_order_and_go_on_after_the_last_that_was_seen() {
    let server = Server::start().await;
    server.create("before").await;
    let mut live = Events::open(&server, "", None).await;
    for id in ["a", "b"] {
        server.create(id).await;
        server.send("patch", &format!("/twins/{id}"), &json!({ "tags": { "x": 1 } })).await.ok();
    }
    server.delete("/devices/a").await.is(204);
    let all = live.take(5).await;
    let expected = [
        ("lifecycle", "a", "createDeviceIdentity"),
        ("twin", "a", "updateTwin"),
        ("lifecycle", "b", "createDeviceIdentity"),
        ("twin", "b", "updateTwin"),
        ("lifecycle", "a", "deleteDeviceIdentity"),
    ];
    assert_eq!(all.iter().map(about).collect::<Vec<_>>(), expected, "from now on, so not the first");
    for (n, event) in all.iter().enumerate() {
        let rest = &all[n + 1..];
        let after = format!("?after={}", event.id);
        for mut again in
            [Events::open(&server, "", Some(&event.id)).await, Events::open(&server, &after, None).await]
        {
            assert_eq!(again.take(rest.len()).await, rest, "nothing twice, nothing lost");
        }
        // Whoever reconnects sends both; what he saw last counts.
        let mut both = Events::open(&server, "?after=0.0", Some(&event.id)).await;
        assert_eq!(both.take(rest.len()).await, rest);
    }
    let mut whole = Events::open(&server, "?after=0.0", None).await;
    assert_eq!(
        about(&whole.next().await.expect("the first")),
        ("lifecycle", "before", "createDeviceIdentity")
    );
    assert_eq!(whole.take(5).await, all);
}

#[tokio::test]
async fn twin_events_tell_by_whom_and_what_was_before_and_is_after() {
    let server = Server::start().await;
    let (id, token) = server.test.register("a").await;
    let mut events = Events::open(&server, "?after=0.0", None).await;
    let created = events.next().await.expect("an event");
    let owner = json!({ "kind": "policy", "name": "iothubowner" });
    assert_eq!((&created.data["actor"], created.data.get("changes")), (&owner, None));
    for tags in
        [json!({ "site": { "floor": 1 } }), json!({ "site": { "floor": 2 } }), json!({ "site": null })]
    {
        server.send("patch", "/twins/a", &json!({ "tags": tags })).await.ok();
    }
    for (before, after) in [(json!(null), json!(1)), (json!(1), json!(2)), (json!(2), json!(null))] {
        let event = events.next().await.expect("an event");
        let changes = json!([{ "path": "tags.site.floor", "before": before, "after": after }]);
        assert_eq!((&event.data["actor"], &event.data["changes"]), (&owner, &changes));
        assert_eq!(event.data.get("moreChanges"), None);
    }
    let who = server.test.hub.authenticate_device(&id, Credential::Token(&token)).expect("its own token");
    let many: serde_json::Map<_, _> = (0..=EVENT_CHANGES_MAX).map(|n| (format!("k{n}"), json!(n))).collect();
    let patch = TwinPatch::new(many).expect("a patch");
    server.test.hub.twin_patch_reported(&who, &id, &patch, None).await.expect("reported");
    let event = events.next().await.expect("an event");
    assert_eq!(event.data["actor"], json!({ "kind": "device", "name": "a" }));
    assert_eq!(event.data["changes"].as_array().map(Vec::len), Some(EVENT_CHANGES_MAX));
    assert_eq!(event.data["moreChanges"], json!(true));
}

#[tokio::test]
async fn a_filter_lets_through_what_it_names() {
    let server = Server::start().await;
    let (id, token) = server.test.register("a").await;
    server.create("b").await;
    for device in ["a", "b"] {
        server.send("patch", &format!("/twins/{device}"), &json!({ "tags": { "x": 1 } })).await.ok();
    }
    let hub = &server.test.hub;
    let who = hub.authenticate_device(&id, Credential::Token(&token)).expect("its own token");
    let json_kind = vec![("content-type".to_string(), "application/json".to_string())];
    let message =
        |body: &[u8]| Message { body: body.to_vec(), system: json_kind.clone(), properties: Vec::new() };
    hub.telemetry_send(&who, &id, vec![message(b"{\"t\":1}"), message(b"\xff")]).await.expect("sent");
    for (query, expected) in [
        ("source=telemetry", vec![("telemetry", "a", ""), ("telemetry", "a", "")]),
        ("source=twin", vec![("twin", "a", "updateTwin"), ("twin", "b", "updateTwin")]),
        ("device=b", vec![("lifecycle", "b", "createDeviceIdentity"), ("twin", "b", "updateTwin")]),
        (
            "source=twin,telemetry&device=a",
            vec![("twin", "a", "updateTwin"), ("telemetry", "a", ""), ("telemetry", "a", "")],
        ),
    ] {
        let mut events = Events::open(&server, &format!("?after=0.0&{query}"), None).await;
        let got = events.take(expected.len()).await;
        assert_eq!(got.iter().map(about).collect::<Vec<_>>(), expected, "{query}");
        if query == "source=telemetry" {
            assert_eq!(
                (&got[0].data["body"], &got[1].data["bodyBase64"]),
                (&json!({ "t": 1 }), &json!("/w=="))
            );
        }
    }
    for (query, part) in [
        ("source=gossip", "'gossip'"),
        ("after=soon", "'soon'"),
        ("after=1", "'1'"),
        ("after=-1.0", "'-1.0'"),
        ("device=a%20b", "device id"),
        ("after=1.0&after=2.0", ""),
    ] {
        let words = server.get(&format!("/api/events?{query}")).await.error(400, "ArgumentInvalid");
        assert!(words.contains(part), "{query}: {words}");
    }
    let twice =
        server.request("get", "/api/events").header("Last-Event-ID", "1.0").header("Last-Event-ID", "2.0");
    Reply::of(twice).await.error(400, "ArgumentInvalid");
}

#[tokio::test]
async fn a_stream_ends_with_words_when_its_token_does() {
    let server = Server::start().await;
    let mut events = Events::open(&server, "", None).await;
    server.create("a").await;
    let first = events.next().await.expect("an event");
    server.test.advance(Duration::from_secs(3600 + 301));
    // Somebody whose token is good does something that wakes the reader.
    let id = TwinId::parse("b", None).expect("an id");
    server.test.hub.identity_create(&server.test.owner(), id, Default::default()).await.expect("created");
    let end = events.next().await.expect("an end");
    assert_eq!((end.kind.as_str(), &end.data["reason"]), ("end", &json!("the token expired")));
    assert_eq!(events.next().await, None);
    let position = end.data["position"].as_str().expect("a position");
    let fresh = server.test.policy_token("service");
    let request =
        server.anonymous("get", &format!("/api/events?after={position}")).header("Authorization", fresh);
    let mut events = Events::of(request).await;
    let next = events.next().await.expect("an event");
    assert_eq!(about(&next), ("lifecycle", "b", "createDeviceIdentity"), "after {}", first.id);
}

#[tokio::test]
async fn a_stream_ends_with_words_when_the_hub_stops() {
    let server = Server::start().await;
    let mut events = Events::open(&server, "", None).await;
    server.create("a").await;
    let last = events.next().await.expect("an event");
    let stop = server.test.hub.shutdown(WAIT);
    let (stopped, end) = tokio::join!(stop, events.next());
    let end = end.expect("an end");
    assert_eq!((end.kind.as_str(), &end.data["reason"]), ("end", &json!("the hub shuts down")));
    assert!(end.data["position"].as_str().is_some_and(|position| !position.is_empty()), "{last:?} {end:?}");
    assert_eq!(events.next().await, None);
    assert!(stopped, "nothing was left running");
}
