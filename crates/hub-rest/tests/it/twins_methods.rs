//! Twins as back ends write them, and direct methods as back ends call them; the device's side is an attachment to the hub.

use std::sync::Arc;

use futures_util::future::join_all;
use hub_domain::id::TwinId;
use hub_domain::link::Downlink;
use hub_domain::method::MethodResult;
use hub_domain::session::Family;
use hub_engine::Attachment;
use hub_engine::access::Credential;
use serde_json::{Value, json};

use crate::support::{Reply, Server};

/// Method calls that may wait for one device.
const CALLS_PER_DEVICE_MAX: usize = 32;

/// An attached device or module.
struct Device {
    id: TwinId,
    attachment: Attachment,
    downlinks: hub_engine::Downlinks,
}

impl Device {
    /// Attaches one that is registered; it takes methods if `callable`.
    async fn attach(server: &Server, id: &TwinId, token: &str, callable: bool) -> Self {
        let hub = &server.test.hub;
        let who = hub.authenticate_device(id, Credential::Token(token)).expect("its own token");
        let (queue, downlinks) = hub_engine::downlinks(2 * CALLS_PER_DEVICE_MAX);
        let attachment = hub.attach(&who, id, true, queue).await.expect("attached");
        if callable {
            hub.subscribe(&attachment, Family::Methods, false).await.expect("subscribed");
        }
        Self { id: id.clone(), attachment, downlinks }
    }

    async fn register(server: &Server, name: &str, callable: bool) -> Self {
        let (id, token) = server.test.register(name).await;
        Self::attach(server, &id, &token, callable).await
    }

    /// Takes one call and answers it; returns its name and payload.
    async fn answer(&mut self, server: &Server, status: i32, payload: &str) -> (Arc<str>, Arc<str>) {
        match self.downlinks.next().await.expect("a downlink") {
            Downlink::Call { call, name, payload: asked } => {
                let result = MethodResult { status, payload: payload.into() };
                server.test.hub.method_complete(&self.attachment, call, result);
                (name, asked)
            }
            other => panic!("{}: {other:?}", self.id),
        }
    }
}

async fn populated() -> Server {
    let server = Server::start().await;
    server.test.register("d").await;
    server.test.register("d/m").await;
    server
}

const TWINS: [&str; 2] = ["/twins/d", "/twins/d/modules/m"];

/// A section without what the hub adds.
fn plain(section: &Value) -> Value {
    let mut section = section.clone();
    let members = section.as_object_mut().expect("a section is an object");
    members.remove("$metadata").expect("a section has metadata");
    members.remove("$version").expect("a section has a version");
    section
}

fn desired(twin: &Value) -> Value {
    plain(&twin["properties"]["desired"])
}

fn counters(twin: &Value) -> (Value, Value, Value) {
    let version = |section: &str| twin["properties"][section]["$version"].clone();
    (twin["version"].clone(), version("desired"), version("reported"))
}

#[tokio::test]
async fn patches_merge_and_null_removes() {
    let server = populated().await;
    for path in TWINS {
        let steps = [
            (
                json!({ "a": { "b": 1, "c": [1, 2] }, "k": "v" }),
                json!({ "a": { "b": 1, "c": [1, 2] }, "k": "v" }),
            ),
            (json!({ "a": { "b": 2 } }), json!({ "a": { "b": 2, "c": [1, 2] }, "k": "v" })),
            (json!({ "a": { "c": [3] } }), json!({ "a": { "b": 2, "c": [3] }, "k": "v" })),
            (json!({ "a": { "b": null }, "none": null }), json!({ "a": { "c": [3] }, "k": "v" })),
            (json!({ "new": { "x": null } }), json!({ "a": { "c": [3] }, "k": "v", "new": {} })),
            (json!({ "a": null, "new": null }), json!({ "k": "v" })),
            (json!({ "k": { "deep": true } }), json!({ "k": { "deep": true } })),
            (json!({ "k": null }), json!({})),
        ];
        for (n, (patch, whole)) in steps.into_iter().enumerate() {
            let body = json!({ "tags": patch, "properties": { "desired": patch } });
            let reply = server.send("patch", path, &body).await;
            let twin = reply.ok();
            assert_eq!(desired(&twin), whole, "{path}: {patch}");
            let tags = twin.get("tags").cloned().unwrap_or_else(|| json!({}));
            assert_eq!(tags, whole, "{path}: {patch}");
            assert_eq!(counters(&twin), (json!(n + 3), json!(n + 2), json!(1)), "{path}: {patch}");
            let etag = format!("\"{}\"", twin["etag"].as_str().expect("an etag"));
            assert_eq!(reply.header("etag"), Some(etag.as_str()));
            assert_eq!(server.get(path).await.ok(), twin);
        }
    }
}

#[tokio::test]
async fn replacements_touch_the_sections_that_are_given() {
    let server = populated().await;
    for path in TWINS {
        let start =
            json!({ "tags": { "a": 1, "b": 2 }, "properties": { "desired": { "p": { "q": 1, "r": 2 } } } });
        server.send("patch", path, &start).await.ok();
        let tags = server.send("put", path, &json!({ "tags": { "b": 3 } })).await.ok();
        assert_eq!((&tags["tags"], desired(&tags)), (&json!({ "b": 3 }), json!({ "p": { "q": 1, "r": 2 } })));
        let wanted =
            server.send("put", path, &json!({ "properties": { "desired": { "p": { "r": 5 } } } })).await.ok();
        assert_eq!((&wanted["tags"], desired(&wanted)), (&json!({ "b": 3 }), json!({ "p": { "r": 5 } })));
        // What the SDKs send back of what they read is not a change of it, and nobody but the device reports.
        let mut echo = wanted.clone();
        echo["properties"]["reported"]["lie"] = json!(1);
        let echoed = server.send("put", path, &echo).await.ok();
        assert_eq!((desired(&echoed), &echoed["tags"]), (desired(&wanted), &wanted["tags"]));
        assert_eq!(echoed["properties"]["reported"], wanted["properties"]["reported"]);
        let nothing =
            server.send("put", path, &json!({ "tags": null, "properties": { "desired": null } })).await.ok();
        assert_eq!((desired(&nothing), &nothing["tags"]), (desired(&wanted), &wanted["tags"]));
        let empty =
            server.send("put", path, &json!({ "tags": {}, "properties": { "desired": {} } })).await.ok();
        assert_eq!((desired(&empty), empty.get("tags")), (json!({}), None));
    }
}

#[tokio::test]
async fn a_twin_is_written_only_at_the_version_that_is_demanded() {
    let server = populated().await;
    for path in TWINS {
        for method in ["patch", "put"] {
            let read = || async { server.get(path).await.ok() };
            let etag = |twin: &Value| twin["etag"].as_str().expect("an etag").to_string();
            let device_etag = read().await["deviceEtag"].as_str().expect("an etag").to_string();
            for spelling in ["\"{}\"", "{}", "W/\"{}\"", "*", "\"*\""] {
                let before = read().await;
                let header = spelling.replace("{}", &etag(&before));
                let after =
                    server.send_if(method, path, &header, &json!({ "tags": { "by": spelling } })).await.ok();
                assert_eq!(after["tags"]["by"], spelling);
                let stale =
                    server.send_if(method, path, &etag(&before), &json!({ "tags": { "by": "late" } })).await;
                stale.error(412, "PreconditionFailed");
                let other =
                    server.send_if(method, path, &device_etag, &json!({ "tags": { "by": "late" } })).await;
                other.error(412, "PreconditionFailed");
                assert_eq!(read().await, after);
            }
        }
    }
    for (path, name) in [
        ("/twins/none", "DeviceNotFound"),
        ("/twins/d/modules/none", "ModuleNotFound"),
        ("/twins/none/modules/m", "DeviceNotFound"),
    ] {
        server.get(path).await.error(404, name);
        server.send("patch", path, &json!({ "tags": {} })).await.error(404, name);
        server.send_if("put", path, "*", &json!({ "tags": {} })).await.error(404, name);
    }
}

#[tokio::test]
async fn of_writers_at_once_none_is_lost_and_with_an_etag_one_wins() {
    let server = populated().await;
    let bodies: Vec<_> =
        (0..16).map(|n| json!({ "properties": { "desired": { format!("k{n}"): n } } })).collect();
    for reply in join_all(bodies.iter().map(|body| server.send("patch", "/twins/d", body))).await {
        reply.ok();
    }
    let twin = server.get("/twins/d").await.ok();
    assert_eq!(desired(&twin).as_object().map(serde_json::Map::len), Some(16), "{twin}");
    assert_eq!(counters(&twin), (json!(18), json!(17), json!(1)), "each write counts once");
    let etag = twin["etag"].as_str().expect("an etag");
    let replies = join_all(bodies.iter().map(|body| server.send_if("put", "/twins/d", etag, body))).await;
    let won: Vec<_> = replies.iter().filter(|reply| reply.status == 200).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(server.get("/twins/d").await.ok(), won[0].json());
    for reply in replies.iter().filter(|reply| reply.status != 200) {
        reply.error(412, "PreconditionFailed");
    }
}

#[tokio::test]
async fn a_method_that_cannot_reach_its_device_says_why() {
    let server = populated().await;
    Device::register(&server, "deaf", false).await;
    let deaf = Device::register(&server, "deaf2", false).await;
    server.create("disabled").await;
    server.send_if("put", "/devices/disabled", "*", &json!({ "status": "disabled" })).await.ok();
    let before = server.snapshot().await;
    for (path, code, name) in [
        ("/twins/d/methods", 404_103, "DeviceNotOnline"),
        ("/twins/d/modules/m/methods", 404_103, "DeviceNotOnline"),
        ("/twins/deaf2/methods", 404_103, "DeviceNotOnline"),
        ("/twins/none/methods", 404_001, "DeviceNotFound"),
        ("/twins/d/modules/none/methods", 404_010, "ModuleNotFound"),
        ("/twins/disabled/methods", 404_001, "DeviceNotFound"),
    ] {
        let reply = server.send("post", path, &json!({ "methodName": "reboot" })).await;
        let words = reply.nested_error(code, name);
        if code == 404_103 {
            assert_eq!(words, "Timed out waiting for device to connect.");
        }
    }
    let command = server.send("post", "/digitaltwins/d/commands/reboot", &json!({})).await;
    command.nested_error(404_103, "DeviceNotOnline");
    assert_eq!(server.snapshot().await, before);
    drop(deaf);
}

#[tokio::test]
async fn a_method_request_that_is_wrong_never_reaches_the_device() {
    let server = Server::start().await;
    let mut device = Device::register(&server, "d", true).await;
    for (body, code, name, part) in [
        (json!({}), 400_005, "ArgumentNull", "methodName"),
        (json!({ "payload": 1 }), 400_005, "ArgumentNull", "methodName"),
        (json!({ "methodName": null }), 400_005, "ArgumentNull", "methodName"),
        (json!({ "methodName": 5 }), 400_006, "IotHubFormatError", "string"),
        (json!({ "methodName": "" }), 400_004, "ArgumentInvalid", "methodName"),
        (json!({ "methodName": "a/b" }), 400_004, "ArgumentInvalid", "'/'"),
        (json!({ "methodName": "a b" }), 400_004, "ArgumentInvalid", "' '"),
        (json!({ "methodName": "#" }), 400_004, "ArgumentInvalid", "'#'"),
        (json!({ "methodName": "m".repeat(129) }), 400_004, "ArgumentInvalid", "128"),
        (
            json!({ "methodName": "m", "responseTimeoutInSeconds": 4 }),
            400_004,
            "ArgumentInvalid",
            "responseTimeoutInSeconds must be within [5; 300].",
        ),
        (
            json!({ "methodName": "m", "responseTimeoutInSeconds": 301 }),
            400_004,
            "ArgumentInvalid",
            "[5; 300]",
        ),
        (
            json!({ "methodName": "m", "responseTimeoutInSeconds": -1 }),
            400_004,
            "ArgumentInvalid",
            "[5; 300]",
        ),
        (
            json!({ "methodName": "m", "responseTimeoutInSeconds": "0" }),
            400_004,
            "ArgumentInvalid",
            "[5; 300]",
        ),
        (
            json!({ "methodName": "m", "responseTimeoutInSeconds": i64::MAX }),
            400_004,
            "ArgumentInvalid",
            "[5; 300]",
        ),
        (
            json!({ "methodName": "m", "responseTimeoutInSeconds": u64::MAX }),
            400_006,
            "IotHubFormatError",
            "",
        ),
        (
            json!({ "methodName": "m", "responseTimeoutInSeconds": "soon" }),
            400_006,
            "IotHubFormatError",
            "soon",
        ),
        (json!({ "methodName": "m", "responseTimeoutInSeconds": 7.5 }), 400_006, "IotHubFormatError", ""),
        (
            json!({ "methodName": "m", "connectTimeoutInSeconds": 301 }),
            400_004,
            "ArgumentInvalid",
            "connectTimeoutInSeconds must be within [0; 300].",
        ),
        (json!({ "methodName": "m", "connectTimeoutInSeconds": -1 }), 400_004, "ArgumentInvalid", "[0; 300]"),
        (
            json!({ "methodName": "m", "payload": "x".repeat(128 * 1024) }),
            400_004,
            "ArgumentInvalid",
            "131072",
        ),
    ] {
        let words = server.send("post", "/twins/d/methods", &body).await.nested_error(code, name);
        assert!(words.contains(part), "{part}: {words}");
    }
    for query in ["responseTimeoutInSeconds=4", "connectTimeoutInSeconds=301"] {
        let path = format!("/digitaltwins/d/commands/c?{query}");
        server.send("post", &path, &json!(1)).await.nested_error(400_004, "ArgumentInvalid");
    }
    server
        .send("post", "/digitaltwins/d/commands/c?connectTimeoutInSeconds=x", &json!(1))
        .await
        .error(400, "ArgumentInvalid");
    let text = server.send_raw("post", "/digitaltwins/d/commands/c", "{not json").await;
    text.nested_error(400_506, "InvalidDigitalTwinPayload");
    assert!(device.downlinks.try_next().is_none(), "nothing came");
}

#[tokio::test]
async fn a_method_carries_the_payload_as_it_was_sent_and_the_answer_back() {
    let server = Server::start().await;
    let mut device = Device::register(&server, "d", true).await;
    let mut module = Device::register(&server, "d/m", true).await;
    for (payload, answer, status) in [
        (r#"{ "a" : 1.50, "b":[ ] }"#, r#"{"ok":true}"#, 200),
        ("null", "null", 404),
        ("\"text\"", "[1,2]", -7),
        ("1e400", "0.10", i32::MAX),
    ] {
        let body =
            format!(r#"{{"methodName":"reboot","payload":{payload},"responseTimeoutInSeconds":"30"}}"#);
        let (reply, asked) = tokio::join!(
            server.send_raw("post", "/twins/d/methods", body.clone()),
            device.answer(&server, status, answer)
        );
        assert_eq!((&*asked.0, &*asked.1), ("reboot", payload), "the device gets the bytes that were sent");
        reply.is(200);
        assert_eq!(reply.text(), format!(r#"{{"status":{status},"payload":{answer}}}"#));
        let path = "/twins/d/modules/m/methods";
        let (reply, asked) =
            tokio::join!(server.send_raw("post", path, body), module.answer(&server, status, answer));
        assert_eq!((reply.status, &*asked.1), (200, payload));
    }
    let bare = json!({ "methodName": "m" });
    let (_, asked) =
        tokio::join!(server.send("post", "/twins/d/methods", &bare), device.answer(&server, 1, "1"));
    assert_eq!(&*asked.1, "null", "no payload is null");
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let body = format!(r#"{{"methodName":"m","payload":{deep}}}"#);
    let (reply, asked) =
        tokio::join!(server.send_raw("post", "/twins/d/methods", body), device.answer(&server, 200, "1"));
    assert_eq!((reply.status, &*asked.1), (200, deep.as_str()));
    let (reply, _) =
        tokio::join!(server.send("post", "/twins/d/methods", &bare), device.answer(&server, 200, "{broken"));
    reply.nested_error(502_000, "GenericBadGateway");
}

#[tokio::test]
async fn a_command_is_a_method_with_its_status_in_a_header() {
    let server = Server::start().await;
    let mut device = Device::register(&server, "d", true).await;
    for (path, name) in
        [("/digitaltwins/d/commands/c", "c"), ("/digitaltwins/d/components/k/commands/c", "k*c")]
    {
        let body = json!({ "x": 1 });
        let (reply, asked) =
            tokio::join!(server.send("post", path, &body), device.answer(&server, 202, r#"{"y":2}"#));
        assert_eq!((&*asked.0, &*asked.1), (name, r#"{"x":1}"#));
        assert_eq!(reply.ok(), json!({ "y": 2 }));
        assert_eq!(reply.header("x-ms-command-statuscode"), Some("202"));
    }
}

#[tokio::test]
async fn a_call_may_wait_for_its_device() {
    let server = Server::start().await;
    let (id, token) = server.test.register("d").await;
    let call = server
        .request("post", "/twins/d/methods")
        .json(&json!({ "methodName": "m", "connectTimeoutInSeconds": 300 }));
    let comes = async {
        let mut device = Device::attach(&server, &id, &token, true).await;
        device.answer(&server, 200, "1").await;
        device
    };
    let (reply, _device) = tokio::join!(Reply::of(call), comes);
    assert_eq!(reply.ok(), json!({ "status": 200, "payload": 1 }));
}

#[tokio::test]
async fn a_call_ends_when_its_device_goes() {
    let server = Server::start().await;
    let mut device = Device::register(&server, "d", true).await;
    let body = json!({ "methodName": "m" });
    let goes = async {
        device.downlinks.next().await.expect("the call");
        drop(device);
    };
    let (reply, ()) = tokio::join!(server.send("post", "/twins/d/methods", &body), goes);
    reply.nested_error(404_104, "DeviceConnectionClosedRemotely");
}

#[tokio::test]
async fn only_so_many_calls_wait_for_one_device() {
    let server = Server::start().await;
    let (mut device, mut other) =
        (Device::register(&server, "d", true).await, Device::register(&server, "e", true).await);
    let body = json!({ "methodName": "m" });
    let waiting = join_all((0..CALLS_PER_DEVICE_MAX).map(|_| server.send("post", "/twins/d/methods", &body)));
    let one_more = async {
        let mut calls = Vec::new();
        for _ in 0..CALLS_PER_DEVICE_MAX {
            calls.push(device.downlinks.next().await.expect("a call"));
        }
        let refused = server.send("post", "/twins/d/methods", &body).await;
        refused.nested_error(403_800, "DeviceMaximumInflightMethodExceeded");
        // Nobody else is the worse for it.
        let (reply, _) =
            tokio::join!(server.send("post", "/twins/e/methods", &body), other.answer(&server, 200, "1"));
        reply.is(200);
        for call in calls {
            let Downlink::Call { call, .. } = call else { panic!("{call:?}") };
            let result = MethodResult { status: 200, payload: "1".into() };
            server.test.hub.method_complete(&device.attachment, call, result);
        }
    };
    let (replies, ()) = tokio::join!(waiting, one_more);
    assert!(replies.iter().all(|reply| reply.status == 200));
    let (reply, _) =
        tokio::join!(server.send("post", "/twins/d/methods", &body), device.answer(&server, 200, "1"));
    reply.is(200);
}

#[tokio::test]
async fn a_digital_twin_is_written_by_json_patch_all_or_nothing() {
    let server = populated().await;
    let patch = json!([
        { "op": "add", "path": "/target", "value": 21.5 },
        { "op": "replace", "path": "/thermostat/limit", "value": 30 },
    ]);
    let reply = server.send("patch", "/digitaltwins/d", &patch).await;
    reply.is(202);
    let twin = server.get("/twins/d").await.ok();
    assert_eq!(
        reply.header("etag"),
        Some(format!("\"{}\"", twin["etag"].as_str().expect("an etag")).as_str())
    );
    assert_eq!(reply.header("location"), Some("/digitaltwins/d"));
    assert_eq!(desired(&twin), json!({ "target": 21.5, "thermostat": { "__t": "c", "limit": 30 } }));
    let digital = server.get("/digitaltwins/d").await.ok();
    assert_eq!(digital["$dtId"], "d");
    assert_eq!(digital["$metadata"]["target"]["desiredValue"], 21.5);
    assert_eq!(digital["thermostat"]["$metadata"]["limit"]["desiredValue"], 30);
    let before = server.snapshot().await;
    let step = |op: &str, path: &str| json!({ "op": op, "path": path, "value": 1 });
    for (patch, name) in [
        (json!([step("add", "/good"), step("move", "/a")]), "InvalidDigitalTwinJsonPatch"),
        (json!([step("add", "/good"), { "op": "add", "path": "/a" }]), "InvalidDigitalTwinJsonPatch"),
        (json!([step("add", "/good"), { "op": "add" }]), "InvalidDigitalTwinJsonPatch"),
        (json!([step("add", "good")]), "InvalidDigitalTwinPatchPath"),
        (json!([step("add", "/a/b/c")]), "InvalidDigitalTwinPatchPath"),
        (json!([step("add", "/")]), "InvalidDigitalTwinPatchPath"),
        (json!([step("add", "/a"), step("add", "/a/b")]), "InvalidDigitalTwinPatch"),
        (json!([step("add", "/a.b")]), "ArgumentInvalid"),
    ] {
        server.send("patch", "/digitaltwins/d", &patch).await.error(400, name);
    }
    assert_eq!(server.snapshot().await, before);
    let remove = json!([{ "op": "remove", "path": "/target" }]);
    server.send("patch", "/digitaltwins/d", &remove).await.is(202);
    assert_eq!(
        desired(&server.get("/twins/d").await.ok()),
        json!({ "thermostat": { "__t": "c", "limit": 30 } })
    );
}
