//! Retired and replaced devices over HTTPS: what each route takes, answers and refuses.

use serde_json::{Value, json};

use crate::support::{Reply, Server};

async fn retired(server: &Server, id: &str) -> Value {
    server.send("post", &format!("/api/devices/{id}/retire"), &json!({"reason": "worn out"})).await.ok()
}

#[tokio::test]
async fn a_device_is_retired_restored_erased_and_released() {
    let server = Server::start().await;
    server.create("d").await;
    server.send("patch", "/twins/d", &json!({"tags": {"site": "a"}})).await.is(200);
    let device = server.get("/devices/d").await.ok();
    let record = retired(&server, "d").await;
    assert_eq!((&record["state"], &record["reason"]), (&json!("restorable"), &json!("worn out")));
    assert_eq!(record["retiredBy"], json!({"kind": "policy", "name": "iothubowner"}));
    assert_eq!(record["generationId"], device["generationId"]);
    assert!(record["documents"].is_null() && record["erasure"].is_null(), "{record}");
    server.get("/devices/d").await.error(404, "DeviceNotFound");
    server.get("/twins/d").await.error(404, "DeviceNotFound");
    let words = server.send("put", "/devices/d", &json!({"deviceId": "d"})).await.error(409, "DeviceRetired");
    assert!(words.contains("restore it until") && words.contains("release the id"), "{words}");
    server.send("post", "/api/devices/d/retire", &json!({})).await.error(409, "DeviceRetired");
    let shown = server.get("/api/retired/d").await.ok();
    assert_eq!(shown["documents"][0]["tags"], json!({"site": "a"}));
    assert!(!shown.to_string().contains("primaryKey"), "an archive shows no keys");
    let listed = server.get("/api/retired").await;
    assert_eq!((listed.ok().as_array().map(Vec::len), listed.header("x-ms-continuation")), (Some(1), None));
    let query = json!({"query": "SELECT deviceId, retirement.reason FROM devices.retired"});
    let answer = server.send("post", "/devices/query", &query).await;
    assert_eq!(answer.ok(), json!([{"deviceId": "d", "reason": "worn out"}]));
    assert_eq!(answer.header("x-ms-item-type"), Some("Raw"));

    server.send("post", "/api/retired/d/release", &json!({})).await.error(409, "GenericConflict");
    let back = server.send("post", "/api/retired/d/restore", &json!({})).await.ok();
    assert_eq!(back["authentication"], device["authentication"]);
    assert_eq!(back["generationId"], device["generationId"]);
    server.send("post", "/api/retired/d/restore", &json!({})).await.error(404, "GenericNotFound");
    retired(&server, "d").await;
    let renewed = server.send("post", "/api/retired/d/restore", &json!({"newKeys": true})).await.ok();
    assert_ne!(renewed["authentication"], device["authentication"]);

    retired(&server, "d").await;
    let digest = server.delete("/api/retired/d").await.ok();
    assert_eq!((&digest["state"], &digest["erasure"]["removed"]["twins"]), (&json!("erased"), &json!(1)));
    assert_eq!(digest["erasure"]["sha256"].as_str().map(str::len), Some(64));
    server.send("post", "/api/retired/d/restore", &json!({})).await.error(410, "GenericGone");
    assert_eq!(server.get("/api/retired/d").await.ok(), digest);
    server.send("put", "/devices/d", &json!({"deviceId": "d"})).await.error(409, "DeviceRetired");
    let released = server.send("post", "/api/retired/d/release", &json!({})).await.ok();
    assert_eq!(released["state"], "released");
    server.create("d").await;
}

#[tokio::test]
async fn a_list_has_pages() {
    let server = Server::start().await;
    let page = |rows: &str, token: Option<&str>| {
        let request = server.request("get", "/api/retired").header("x-ms-max-item-count", rows);
        Reply::of(token.iter().fold(request, |request, token| request.header("x-ms-continuation", *token)))
    };
    for id in ["a", "b", "c"] {
        server.create(id).await;
        retired(&server, id).await;
    }
    let first = page("2", None).await;
    let ids = |value: Value| -> Vec<Value> {
        value.as_array().expect("a list").iter().map(|one| one["deviceId"].clone()).collect()
    };
    assert_eq!(ids(first.ok()), ["a", "b"]);
    let token = first.header("x-ms-continuation").expect("there is more").to_string();
    let last = page("2", Some(&token)).await;
    assert_eq!((ids(last.ok()), last.header("x-ms-continuation")), (vec![json!("c")], None));
    page("2", Some("nonsense")).await.error(400, "ArgumentInvalid");
}

#[tokio::test]
async fn bad_requests_are_refused_and_change_nothing() {
    let server = Server::start().await;
    for id in ["d", "used", "new"] {
        server.create(id).await;
    }
    server.send("patch", "/twins/used", &json!({"tags": {"a": 1}})).await.is(200);
    let before = server.snapshot().await;
    let check = async |path: &str, body: Value, status: u16, name: &str, part: &str| {
        let words = server.send("post", path, &body).await.error(status, name);
        assert!(words.contains(part), "{body}: {words}");
    };
    let retire = "/api/devices/d/retire";
    let wrong = "ArgumentInvalid";
    check(retire, json!({"reason": "x".repeat(513)}), 400, wrong, "512").await;
    check(retire, json!({"reason": 1}), 400, "IotHubFormatError", "not as expected").await;
    check(retire, json!({"restorableForSeconds": -1}), 400, "IotHubFormatError", "not as expected").await;
    check(retire, json!({"restorableForSeconds": 315_360_001}), 400, wrong, "within [0; 315360000]").await;
    check(retire, json!([]), 400, "IotHubFormatError", "not a JSON object").await;
    let method = |payload: Value| json!({"eraseMethod": {"methodName": "wipe", "payload": payload}});
    check(retire, method(json!([1])), 400, wrong, "must be a JSON object").await;
    check(retire, method(json!({"nonce": "mine"})), 400, wrong, "'nonce'").await;
    check(retire, json!({"eraseMethod": {}}), 400, "ArgumentNull", "methodName").await;
    check(retire, method(json!({})), 404, "DeviceNotOnline", "Timed out").await;
    check("/api/devices/x/retire", json!({}), 404, "DeviceNotFound", "'x'").await;
    check("/api/devices/x/retire", method(json!({})), 404, "DeviceNotFound", "'x'").await;
    check("/api/devices/not valid/retire", json!({}), 400, wrong, "device id").await;
    let job = async |more: Value, status: u16, name: &str, part: &str| {
        let mut body = json!({"type": "retireDevice", "queryCondition": "*"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let words = server.send("put", "/jobs/v2/leave", &body).await.error(status, name);
        assert!(words.contains(part), "{body}: {words}");
    };
    job(json!({"parameters": {"eraseMehtod": {}}}), 400, wrong, "parameters.eraseMehtod is not known").await;
    job(json!({"parameters": {"restorableForSeconds": -1}}), 400, wrong, "parameters").await;
    job(json!({"parameters": method(json!([1]))}), 400, wrong, "must be a JSON object").await;
    job(json!({"parameters": [1]}), 400, wrong, "parameters").await;
    job(json!({"devices": ["d"]}), 400, wrong, "exclude each other").await;
    job(json!({"queryCondition": null, "devices": []}), 400, wrong, "devices is empty").await;
    job(json!({"queryCondition": null, "devices": ["not valid"]}), 400, wrong, "device id").await;
    job(json!({"queryCondition": null}), 400, "ArgumentNull", "queryCondition").await;
    job(
        json!({"queryCondition": "FROM devices.modules WHERE moduleId = 'm'"}),
        400,
        wrong,
        "devices are retired",
    )
    .await;
    let reports = json!({"rollout": {"success": {"condition": "tags.a = 1"}}});
    job(reports, 400, wrong, "rollout.success").await;
    let replace = "/api/devices/d/replace";
    check(replace, json!({}), 400, "ArgumentNull", "keepId").await;
    check(replace, json!({"new": "new", "keepId": true}), 400, wrong, "exclude each other").await;
    check(replace, json!({"new": "new", "keepReported": true}), 400, wrong, "for keepId").await;
    check(replace, json!({"keepId": true, "overwrite": true}), 400, wrong, "for new").await;
    check(replace, json!({"new": "not valid"}), 400, wrong, "device id").await;
    check(replace, json!({"new": "d"}), 400, wrong, "cannot replace itself").await;
    check(replace, json!({"new": "x"}), 404, "DeviceNotFound", "'x'").await;
    check(replace, json!({"new": "used"}), 409, "GenericConflict", "(tags)").await;
    check("/api/devices/x/replace", json!({"new": "new"}), 404, "DeviceNotFound", "'x'").await;
    check("/api/devices/x/replace", json!({"keepId": true}), 404, "DeviceNotFound", "'x'").await;
    let short = json!({"keepId": true, "authentication": {"symmetricKey": {"primaryKey": "AAAA", "secondaryKey": "AAAA"}}});
    check(replace, short, 400, wrong, "primaryKey").await;
    for action in ["restore", "release"] {
        check(&format!("/api/retired/d/{action}"), json!({}), 404, "GenericNotFound", "no retired device")
            .await;
    }
    server.get("/api/retired/d").await.error(404, "GenericNotFound");
    server.delete("/api/retired/d").await.error(404, "GenericNotFound");
    server.get("/api/devices/x/everything").await.error(404, "DeviceNotFound");
    assert_eq!(server.snapshot().await, before);
}

#[tokio::test]
async fn replacements_answer_with_the_new_device() {
    let server = Server::start().await;
    for id in ["old", "new"] {
        server.create(id).await;
    }
    server.send("patch", "/twins/old", &json!({"tags": {"site": "a"}})).await.is(200);
    let old = server.get("/devices/old").await.ok();
    let replaced =
        server.send("post", "/api/devices/old/replace", &json!({"new": "new", "reason": "hail"})).await.ok();
    assert_eq!(replaced["device"], server.get("/devices/new").await.ok());
    assert_eq!(replaced["retired"]["replacedBy"], "new");
    assert_eq!(replaced["replaces"][0]["generationId"], old["generationId"]);
    assert_eq!(server.get("/twins/new").await.ok()["tags"], json!({"site": "a"}));

    let before = server.get("/devices/new").await.ok();
    let body = json!({"keepId": true});
    let replaced = server.send("post", "/api/devices/new/replace", &body).await.ok();
    assert_eq!(replaced["device"], server.get("/devices/new").await.ok());
    assert_ne!(replaced["device"]["authentication"], before["authentication"]);
    let line: Vec<_> =
        replaced["replaces"].as_array().expect("a list").iter().map(|one| one["deviceId"].clone()).collect();
    assert_eq!((line, &replaced["retired"]), (vec![json!("new"), json!("old")], &Value::Null));
}

#[tokio::test]
async fn everything_is_told_in_lines_and_keys_only_if_asked() {
    let server = Server::start().await;
    server.create("d").await;
    server.send("put", "/devices/d/modules/m", &json!({"deviceId": "d", "moduleId": "m"})).await.is(201);
    let lines = async |path: &str| -> Vec<Value> {
        let answer = server.get(path).await;
        answer.is(200);
        assert_eq!(answer.header("content-type"), Some("application/x-ndjson; charset=utf-8"));
        answer.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let told = lines("/api/devices/d/everything").await;
    let parts: Vec<_> = told.iter().map(|line| line["part"].as_str().expect("a part")).collect();
    assert_eq!(parts, ["identity", "identity", "event", "event", "end"]);
    assert_eq!(
        (&told[0]["identity"]["deviceId"], &told[1]["identity"]["moduleId"]),
        (&json!("d"), &json!("m"))
    );
    assert!(told[0]["twin"]["properties"]["desired"]["$metadata"].is_object());
    assert!(!told.iter().any(|line| line.to_string().contains("primaryKey\":\"")), "keys were told unasked");
    let with_keys = lines("/api/devices/d/everything?keys=true").await;
    let key = &server.get("/devices/d").await.ok()["authentication"]["symmetricKey"]["primaryKey"];
    assert_eq!(&with_keys[0]["identity"]["authentication"]["symmetricKey"]["primaryKey"], key);
}
