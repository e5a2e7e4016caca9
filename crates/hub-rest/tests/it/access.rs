//! Who may do what: every operation of the OpenAPI document against every wrong credential and every policy.
//! The table of rights stands here a second time on purpose; an operation that is missing in it fails the test.

use std::collections::BTreeSet;
use std::time::Duration;

use hub_domain::id::TwinId;
use hub_domain::sas::{SymmetricKey, make_token};
use hub_domain::time::Timestamp;
use hub_testkit::{HOSTNAME, START_SECONDS};
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::support::{Reply, Server};

/// The policies that may do it.
type Allowed = &'static [&'static str];

const READ: Allowed = &["iothubowner", "registryRead", "registryReadWrite"];
const WRITE: Allowed = &["iothubowner", "registryReadWrite"];
const SERVICE: Allowed = &["iothubowner", "service"];
const LOOK: Allowed = &["iothubowner", "service", "registryRead", "registryReadWrite"];
const OWNER: Allowed = &["iothubowner"];
const POLICIES: Allowed = &["iothubowner", "service", "device", "registryRead", "registryReadWrite"];

/// Method, path as in the document, who may, and whether errors have the shape of direct methods.
const OPERATIONS: &[(&str, &str, Allowed, bool)] = &[
    ("get", "/devices", READ, false),
    ("post", "/devices", WRITE, false),
    ("post", "/devices/query", SERVICE, false),
    ("post", "/devices/keys/regenerate", WRITE, false),
    ("get", "/devices/{id}", READ, false),
    ("put", "/devices/{id}", WRITE, false),
    ("get", "/devices/{id}/modules", READ, false),
    ("get", "/devices/{id}/modules/{mid}", READ, false),
    ("put", "/devices/{id}/modules/{mid}", WRITE, false),
    ("get", "/statistics/devices", READ, false),
    ("get", "/statistics/service", READ, false),
    ("get", "/twins/{id}", SERVICE, false),
    ("patch", "/twins/{id}", SERVICE, false),
    ("put", "/twins/{id}", SERVICE, false),
    ("get", "/twins/{id}/modules/{mid}", SERVICE, false),
    ("patch", "/twins/{id}/modules/{mid}", SERVICE, false),
    ("put", "/twins/{id}/modules/{mid}", SERVICE, false),
    ("post", "/twins/{id}/methods", SERVICE, true),
    ("post", "/twins/{id}/modules/{mid}/methods", SERVICE, true),
    ("get", "/digitaltwins/{id}", SERVICE, false),
    ("patch", "/digitaltwins/{id}", SERVICE, false),
    ("post", "/digitaltwins/{id}/commands/{command}", SERVICE, true),
    ("post", "/digitaltwins/{id}/components/{component}/commands/{command}", SERVICE, true),
    ("post", "/devices/{id}/applyConfigurationContent", WRITE, false),
    ("get", "/configurations", LOOK, false),
    ("get", "/configurations/{id}", LOOK, false),
    ("put", "/configurations/{id}", WRITE, false),
    ("post", "/configurations/testQueries", LOOK, false),
    ("get", "/jobs", READ, false),
    ("post", "/jobs/create", WRITE, false),
    ("get", "/jobs/{id}", READ, false),
    ("delete", "/jobs/{id}", WRITE, false),
    ("get", "/jobs/v2/query", SERVICE, false),
    ("put", "/jobs/v2/{id}", SERVICE, false),
    ("get", "/jobs/v2/{id}", SERVICE, false),
    ("post", "/jobs/v2/{id}/cancel", SERVICE, false),
    ("post", "/api/jobs/preview", SERVICE, false),
    ("get", "/api/jobs/{id}/waiting", SERVICE, false),
    ("post", "/api/jobs/{id}/rollout", SERVICE, false),
    ("get", "/api/jobs/{id}/rollout", SERVICE, false),
    ("get", "/api/jobs/{id}/devices", SERVICE, false),
    ("get", "/api/jobs/{id}/devices/{device}", SERVICE, false),
    ("get", "/api/jobs/{id}/devices/{device}/modules/{mid}", SERVICE, false),
    ("post", "/api/configurations/{id}/rollout", WRITE, false),
    ("get", "/api/context", SERVICE, false),
    ("put", "/api/context", WRITE, false),
    ("post", "/api/configurations/preview", LOOK, false),
    ("get", "/api/status", LOOK, false),
    ("get", "/api/events", SERVICE, false),
    ("get", "/api/queries/watch", SERVICE, false),
    ("get", "/api/devices/{id}/explain", SERVICE, false),
    ("get", "/api/devices/{id}/modules/{mid}/explain", SERVICE, false),
    ("post", "/api/import", WRITE, false),
    ("get", "/api/export", READ, false),
    ("get", "/api/artifacts", READ, false),
    ("post", "/api/artifacts", WRITE, false),
    ("post", "/api/artifacts/{digest}/grants", SERVICE, false),
    ("get", "/api/devices/{id}/everything", OWNER, false),
    ("post", "/api/devices/{id}/replace", WRITE, false),
    ("post", "/api/devices/{id}/retire", WRITE, false),
    ("get", "/api/retired", READ, false),
    ("get", "/api/retired/{id}", READ, false),
    ("post", "/api/retired/{id}/restore", WRITE, false),
    ("delete", "/api/retired/{id}", WRITE, false),
    ("post", "/api/retired/{id}/release", WRITE, false),
    ("get", "/api/policies", OWNER, false),
    ("get", "/api/policies/{name}", OWNER, false),
    // What others need goes last.
    ("delete", "/configurations/{id}", WRITE, false),
    ("delete", "/api/artifacts/{digest}", WRITE, false),
    ("delete", "/devices/{id}/modules/{mid}", WRITE, false),
    ("delete", "/devices/{id}", WRITE, false),
    ("post", "/api/policies/{name}/rotate", OWNER, false),
];

/// Operations without a credential of a back end.
const OPEN: &[(&str, &str)] =
    &[("get", "/api/health"), ("get", "/api/openapi.json"), ("get", "/api/artifacts/{digest}/content")];

/// A hub with edge device `d`, its module `m`, a configuration `d`, and an artifact, whose digest is returned.
async fn populated() -> (Server, String) {
    let server = Server::start().await;
    server.test.register("d").await;
    server.test.register("d/m").await;
    let edge = json!({ "capabilities": { "iotEdge": true } });
    server.send_if("put", "/devices/d", "*", &edge).await.ok();
    let content = json!({ "deviceContent": { "properties.desired.a": 1 } });
    server.send("put", "/configurations/d", &json!({ "content": content })).await.ok();
    let artifact = server.send_raw("post", "/api/artifacts?name=image", "content").await.ok();
    (server, artifact["sha256"].as_str().expect("a digest").to_string())
}

fn body(method: &str, path: &str) -> Option<Value> {
    Some(match (method, path) {
        ("post", "/devices") => json!([{ "id": "d", "importMode": "delete" }]),
        ("put", "/configurations/{id}") => json!({
            "content": { "deviceContent": { "properties.desired.a": 1 } }, "priority": 2, "targetCondition": "*",
        }),
        ("post", "/configurations/testQueries") => json!({ "targetCondition": "*" }),
        ("post", "/devices/{id}/applyConfigurationContent") => {
            json!({ "modulesContent": { "m": { "properties.desired.a": 1 } } })
        }
        ("post", "/devices/query") => json!({ "query": "SELECT * FROM devices" }),
        ("post", "/devices/keys/regenerate") => json!({ "policyKey": "both", "devices": [{ "id": "d" }] }),
        ("post", "/jobs/create") => json!({ "type": "export", "outputBlobContainerUri": "file:///srv" }),
        ("put", "/jobs/v2/{id}") => json!({
            "type": "scheduleUpdateTwin", "queryCondition": "*", "updateTwin": { "etag": "*", "tags": { "a": 1 } },
            "startTime": "2027-02-01T00:00:00Z",
        }),
        ("put", "/devices/{id}" | "/devices/{id}/modules/{mid}") => json!({ "status": "disabled" }),
        ("patch" | "put", path) if path.starts_with("/twins/") => json!({ "tags": { "a": 1 } }),
        ("patch", "/digitaltwins/{id}") => json!([{ "op": "add", "path": "/p", "value": 1 }]),
        ("post", path) if path.contains("/methods") => json!({ "methodName": "m" }),
        ("post", path) if path.contains("/commands") => json!({}),
        ("post", "/api/configurations/preview") | ("put", "/api/context") => json!({}),
        ("post", "/api/jobs/preview") => json!({
            "job": { "type": "rebootDevice", "queryCondition": "*", "rollout": {} },
        }),
        ("post", "/api/jobs/{id}/rollout" | "/api/configurations/{id}/rollout") => {
            json!({ "action": "pause" })
        }
        ("post", "/api/import") => json!({ "id": "d", "moduleId": "imported" }),
        ("post", "/api/devices/{id}/replace") => json!({ "keepId": true }),
        ("post", "/api/devices/{id}/retire" | "/api/retired/{id}/restore") => json!({}),
        ("post", "/api/artifacts") => json!("another"),
        ("post", "/api/artifacts/{digest}/grants") => json!({}),
        ("post", "/api/policies/{name}/rotate") => json!({ "key": "both" }),
        _ => return None,
    })
}

/// A request that would do something, had it a credential.
fn request(server: &Server, digest: &str, method: &str, path: &str) -> RequestBuilder {
    let mut filled = path.replace("{id}", "d").replace("{mid}", "m").replace("{digest}", digest);
    filled = filled.replace("{device}", "d");
    filled = filled.replace("{name}", "device").replace("{command}", "c").replace("{component}", "k");
    filled.push_str(match (method, path) {
        ("post", "/api/artifacts") => "?name=another",
        ("get", "/api/queries/watch") => "?query=SELECT%20*%20FROM%20devices",
        _ => "",
    });
    let request = server.anonymous(method, &filled);
    match body(method, path) {
        // The wildcard lets PUT change what is there.
        Some(body) if method == "put" => request.header("If-Match", "*").json(&body),
        Some(body) => request.json(&body),
        None => request,
    }
}

fn key_of(server: &Server, policy: &str) -> SymmetricKey {
    let policies = server.test.hub.policy_list(&server.test.owner()).expect("the owner's list");
    policies.into_iter().find(|known| known.name == policy).expect("a known policy").primary
}

fn after_start(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(START_SECONDS + seconds)
}

/// Texts that prove nothing, each with what it is.
fn wrong_tokens(server: &Server) -> Vec<(&'static str, String)> {
    let owner = key_of(server, "iothubowner");
    let foreign = SymmetricKey::from_bytes(vec![7; 32]).expect("a key");
    let good = server.test.policy_token("iothubowner");
    let device = TwinId::parse("d", None).expect("an id");
    let module = TwinId::parse("d", Some("m")).expect("an id");
    let skn = Some("iothubowner");
    let expired = make_token(HOSTNAME, &owner, after_start(-301), skn);
    vec![
        ("signed with another key", make_token(HOSTNAME, &foreign, after_start(3600), skn)),
        (
            "another policy's name",
            server.test.policy_token("service").replace("skn=service", "skn=iothubowner"),
        ),
        ("no such policy", make_token(HOSTNAME, &owner, after_start(3600), Some("root"))),
        ("another hub", make_token("other.test", &owner, after_start(3600), skn)),
        ("expired", expired.clone()),
        (
            "prolonged",
            expired.replace(&format!("se={}", START_SECONDS - 301), &format!("se={}", START_SECONDS + 3600)),
        ),
        ("no end", make_token(HOSTNAME, &owner, after_start(3600), skn).replace("se=", "en=")),
        ("no signature", good.replace("sig=", "gis=")),
        ("no scheme", good.replace("SharedAccessSignature ", "")),
        ("another scheme", "Bearer abc.def.ghi".into()),
        ("the key itself", owner.to_base64()),
        ("empty", String::new()),
        ("endless", format!("{good}&x={}", "y".repeat(8000))),
        ("a device's", server.test.device_token(&device, after_start(3600))),
        ("a module's", server.test.device_token(&module, after_start(3600))),
        (
            "signed with a device's key",
            server.test.device_token(&device, after_start(3600)) + "&skn=iothubowner",
        ),
    ]
}

#[tokio::test]
async fn the_table_here_has_every_operation_of_the_document() {
    let server = Server::start().await;
    let document = Reply::of(server.anonymous("get", "/api/openapi.json")).await.ok();
    let (mut open, mut closed) = (BTreeSet::new(), BTreeSet::new());
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let set = if operation["security"] == json!([]) { &mut open } else { &mut closed };
            set.insert((method.as_str(), path.as_str()));
        }
    }
    assert_eq!(open, OPEN.iter().copied().collect());
    assert_eq!(closed, OPERATIONS.iter().map(|(method, path, ..)| (*method, *path)).collect());
    assert_eq!(closed.len(), OPERATIONS.len(), "nothing is in the table twice");
}

#[tokio::test]
async fn nothing_opens_without_a_token_that_proves_something() {
    let (server, digest) = populated().await;
    let before = server.snapshot().await;
    let tokens = wrong_tokens(&server);
    for (method, path, ..) in OPERATIONS {
        let refused = Reply::of(request(&server, &digest, method, path)).await;
        assert_eq!(refused.error(401, "IotHubUnauthorized"), "Authorization header missing");
        for (what, token) in &tokens {
            let request = request(&server, &digest, method, path).header("Authorization", token);
            let words = Reply::of(request).await.error(401, "IotHubUnauthorized");
            assert!(!words.contains(&key_of(&server, "iothubowner").to_base64()), "{what}: {words}");
        }
        assert_eq!(server.snapshot().await, before, "{method} {path} did something");
    }
}

#[tokio::test]
async fn every_policy_may_what_its_rights_say_and_no_more() {
    let (server, digest) = populated().await;
    for (method, path, allowed, nested) in OPERATIONS {
        let before = server.snapshot().await;
        for policy in POLICIES.iter().filter(|policy| !allowed.contains(policy)) {
            let request = request(&server, &digest, method, path);
            let reply = Reply::of(request.header("Authorization", server.test.policy_token(policy))).await;
            let words = match nested {
                true => reply.nested_error(401_002, "IotHubUnauthorizedAccess"),
                false => reply.error(401, "IotHubUnauthorizedAccess"),
            };
            assert!(words.contains(&format!("rule '{policy}' does not allow this")), "{words}");
        }
        assert_eq!(server.snapshot().await, before, "{method} {path} did something");
        for policy in *allowed {
            let request = request(&server, &digest, method, path);
            let reply = request.header("Authorization", server.test.policy_token(policy)).send().await;
            let status = reply.expect("an answer").status().as_u16();
            assert!(status != 401 && status != 403 && status < 500, "{policy}: {method} {path}: {status}");
        }
    }
    let left = server.get("/devices").await.ok();
    assert_eq!(left, json!([]), "those who may delete did");
}

#[tokio::test]
async fn a_token_opens_its_resource_and_what_is_below_by_whole_segments() {
    let server = Server::start().await;
    for device in ["d1", "d10"] {
        server.create(device).await;
    }
    let key = key_of(&server, "iothubowner");
    let cases = [
        ("devices/d1", "/devices/d1", 200),
        ("devices/d1", "/devices/%64%31", 200),
        ("devices/d1", "/devices/d1/modules", 200),
        ("DEVICES/d1", "/devices/d1", 200),
        ("devices/D1", "/devices/d1", 401),
        ("devices/d1", "/devices/d10", 401),
        ("devices/d1", "/devices", 401),
        ("devices/d1", "/devices/d1%2F", 401),
        ("devices/d1", "/twins/d1", 401),
        ("devices", "/devices/d10", 200),
        ("twins", "/devices/d1", 401),
        ("twins", "/api/status", 401),
        ("api", "/api/status", 200),
    ];
    for (resource, path, status) in cases {
        let token = make_token(&format!("{HOSTNAME}/{resource}"), &key, after_start(60), Some("iothubowner"));
        let reply = Reply::of(server.anonymous("get", path).header("Authorization", token)).await;
        assert_eq!(reply.status, status, "{resource} {path}: {}", reply.text());
        if status == 401 {
            reply.error(401, "IotHubUnauthorized");
        }
    }
}

#[tokio::test]
async fn a_token_ends_with_its_time_and_with_its_key() {
    let server = Server::start().await;
    let status = || async { server.get("/statistics/devices").await };
    status().await.is(200);
    // An hour, and the five minutes by which clocks may differ.
    server.test.advance(Duration::from_secs(3600 + 300));
    status().await.is(200);
    server.test.advance(Duration::from_secs(1));
    assert!(status().await.error(401, "IotHubUnauthorized").contains("expired at"));

    let (key, soon) = (key_of(&server, "service"), after_start(7200));
    let (service, owner) = (
        make_token(HOSTNAME, &key, soon, Some("service")),
        make_token(HOSTNAME, &key_of(&server, "iothubowner"), soon, Some("iothubowner")),
    );
    let query = |token: &str| {
        let body = json!({ "query": "SELECT * FROM devices" });
        Reply::of(server.anonymous("post", "/devices/query").header("Authorization", token).json(&body))
    };
    query(&service).await.is(200);
    let rotate = server.anonymous("post", "/api/policies/service/rotate").header("Authorization", &owner);
    let rotated = Reply::of(rotate.json(&json!({ "key": "primary" }))).await.ok();
    query(&service).await.error(401, "IotHubUnauthorized");
    let renewed = SymmetricKey::parse(rotated["primaryKey"].as_str().expect("a key")).expect("a key");
    query(&make_token(HOSTNAME, &renewed, soon, Some("service"))).await.is(200);
}

#[tokio::test]
async fn what_is_not_there_yet_or_at_all_says_so() {
    let server = Server::start().await;
    for path in ["/messages/serviceBound/feedback", "/devices/d/commands"] {
        Reply::of(server.anonymous("get", path)).await.error(401, "IotHubUnauthorized");
        server.get(path).await.error(404, "FeatureNotSupported");
    }
    server.get("/nothing").await.error(404, "GenericNotFound");
    server.delete("/statistics/devices").await.error(405, "GenericMethodNotAllowed");
    for (_, path) in &OPEN[..2] {
        Reply::of(server.anonymous("get", path)).await.is(200);
    }
}
