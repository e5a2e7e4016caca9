//! Import and export jobs against folders and against stores on real sockets, those that err and stall too.

use std::path::Path;
use std::time::Duration;

use hub_engine::containers::{ContainerPolicy, S3Settings, StoreRule};
use hub_testkit::blob_server::{BlobServer, Fault};
use serde_json::{Value, json};

use crate::support::Server;

/// Long enough for a busy machine, and short enough to wait for a store that stalls.
const TIMEOUT: Duration = Duration::from_secs(2);
/// For a job that ends.
const WAIT: Duration = Duration::from_secs(60);

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn folders() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    for name in ["in", "out", "back"] {
        std::fs::create_dir(root.path().join(name)).expect("a folder");
    }
    root
}

fn policy(root: &Path) -> ContainerPolicy {
    ContainerPolicy { folder: Some(root.into()), timeout: TIMEOUT, ..ContainerPolicy::default() }
}

fn policy_for(root: &Path, store: &BlobServer) -> ContainerPolicy {
    ContainerPolicy {
        stores: [&store.rule(), "s3://fleet"].map(|rule| StoreRule::parse(rule).expect("a rule")).into(),
        s3: S3Settings {
            endpoint: store.rule(),
            region: "eu-1".into(),
            access_key_id: "key-id".into(),
            secret_access_key: "key".into(),
        },
        ..policy(root)
    }
}

fn url(root: &Path, folder: &str) -> String {
    format!("file://{}/{folder}", root.display())
}

fn import_from(input: &str, output: &str) -> Value {
    json!({ "type": "import", "inputBlobContainerUri": input, "outputBlobContainerUri": output })
}

async fn ended(server: &Server, job: &Value) -> Value {
    let path = format!("/jobs/{}", job["jobId"].as_str().expect("an id"));
    let end = async {
        loop {
            let job = server.get(&path).await.ok();
            if !matches!(job["status"].as_str(), Some("enqueued" | "running")) {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WAIT, end).await.expect("a job that ends")
}

async fn run(server: &Server, body: &Value) -> Value {
    let job = server.send("post", "/jobs/create", body).await.ok();
    assert_eq!((&job["status"], &job["type"]), (&json!("enqueued"), &body["type"]), "{job}");
    ended(server, &job).await
}

fn lines(text: &[u8]) -> Vec<Value> {
    let text = String::from_utf8(text.to_vec()).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn read(root: &Path, file: &str) -> Vec<Value> {
    lines(&std::fs::read(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}")))
}

const CONFIGURATION: &str = r#"{"id":"eco","content":{"deviceContent":{"properties.desired.mode":"eco"}},"targetCondition":"tags.site='a'","priority":5,"labels":{"team":"x"},"metrics":{"queries":{"ok":"SELECT deviceId FROM devices"}}}"#;

fn without(mut lines: Vec<Value>, names: &[&str]) -> Vec<Value> {
    for line in &mut lines {
        names.iter().for_each(|name| line[name] = Value::Null);
    }
    lines
}

#[tokio::test]
async fn an_export_imports_into_another_hub_as_it_is() {
    let root = folders();
    let from = Server::start_with(policy(root.path())).await;
    let fleet = format!(
        "{}\n\n# a comment\n{}\n{}\n",
        json!({ "id": "a", "tags": { "site": "a" }, "properties": { "desired": { "rate": 5 } },
                "authentication": { "type": "sas", "symmetricKey": { "primaryKey": KEY, "secondaryKey": KEY } } }),
        json!({ "id": "a", "moduleId": "m", "properties": { "desired": { "x": 1 } } }),
        json!({ "id": "b", "status": "disabled", "statusReason": "broken" }),
    );
    std::fs::write(root.path().join("in/devices.txt"), fleet).expect("written");
    std::fs::write(root.path().join("in/configurations.txt"), format!("{CONFIGURATION}\r\n"))
        .expect("written");
    let mut body = import_from(&url(root.path(), "in"), &url(root.path(), "out"));
    body["includeConfigurations"] = true.into();
    let job = run(&from, &body).await;
    assert_eq!((&job["status"], &job["progress"]), (&json!("completed"), &json!(100)), "{job}");
    assert_eq!((&job["doneCount"], &job["failedCount"]), (&json!(4), &json!(0)), "{job}");
    assert_eq!(read(root.path(), "out/importErrors.log"), Vec::<Value>::new());
    from.settled().await;

    let export = json!({
        "type": "export", "outputBlobContainerUri": url(root.path(), "out"), "includeConfigurations": true,
    });
    let job = run(&from, &export).await;
    assert_eq!((&job["status"], &job["doneCount"]), (&json!("completed"), &json!(4)), "{job}");
    let exported = read(root.path(), "out/devices.txt");
    let ids: Vec<_> = exported.iter().map(|line| (line["id"].as_str(), line["moduleId"].as_str())).collect();
    assert_eq!(ids, [(Some("a"), None), (Some("b"), None), (Some("a"), Some("m"))]);
    assert_eq!(exported[0]["authentication"]["symmetricKey"]["primaryKey"], KEY);
    assert_eq!(exported[0]["properties"]["desired"]["mode"], "eco");

    let to = Server::start_with(policy(root.path())).await;
    let body = json!({
        "type": "import", "includeConfigurations": true,
        "inputBlobContainerUri": url(root.path(), "out"), "outputBlobContainerUri": url(root.path(), "in"),
    });
    assert_eq!(run(&to, &body).await["failedCount"], 0);
    to.settled().await;
    let export = json!({
        "type": "export", "outputBlobContainerUri": url(root.path(), "back"), "includeConfigurations": true,
        "outputBlobName": "fleet/all.txt", "configurationsBlobName": "c.txt",
    });
    assert_eq!(run(&to, &export).await["status"], "completed");
    let (there, back) = (["eTag", "twinETag", "properties"], read(root.path(), "back/fleet/all.txt"));
    assert_eq!(without(back.clone(), &there), without(exported.clone(), &there));
    for (back, exported) in back.iter().zip(&exported) {
        assert_eq!(without_metadata(&back["properties"]), without_metadata(&exported["properties"]));
    }
    let own = ["etag", "createdTimeUtc", "lastUpdatedTimeUtc"];
    let configurations = without(read(root.path(), "out/configurations.txt"), &own);
    assert_eq!(without(read(root.path(), "back/c.txt"), &own), configurations);
    assert_eq!(configurations[0]["labels"], json!({ "team": "x" }));

    let job = run(
        &from,
        &json!({
            "type": "export", "outputBlobContainerUri": url(root.path(), "back"), "excludeKeysInExport": true,
        }),
    )
    .await;
    assert_eq!(job["excludeKeysInExport"], true);
    assert_eq!(
        read(root.path(), "back/devices.txt")[0]["authentication"]["symmetricKey"]["primaryKey"],
        Value::Null
    );
}

fn without_metadata(properties: &Value) -> Value {
    let mut properties = properties.clone();
    for section in ["desired", "reported"] {
        if let Some(section) = properties[section].as_object_mut() {
            section.retain(|name, _| !name.starts_with('$'));
        }
    }
    properties
}

#[tokio::test]
async fn every_bad_line_is_named_and_the_rest_is_imported() {
    let root = folders();
    let server = Server::start_with(policy(root.path())).await;
    server.create("there").await;
    server.create("there-2").await;
    let short = json!({ "id": "short", "authentication": { "symmetricKey": { "primaryKey": "AAAA", "secondaryKey": "AAAA" } } });
    let cases: Vec<(String, Option<(u64, &str)>)> = vec![
        (r#"{"id":"good-1"}"#.into(), None),
        (r#"{"id":"#.into(), Some((400_006, ""))),
        (r#"{"id":"good-1"}"#.into(), Some((400_004, "good-1"))),
        (format!(r#"{{"id":"long","tags":{{"a":"{}"}}}}"#, "x".repeat(256 * 1024)), Some((413_000, ""))),
        (r#"{"id":"mode","importMode":"replace"}"#.into(), Some((400_004, "mode"))),
        (short.to_string(), Some((400_004, "short"))),
        (r#"{"id":"there","importMode":"create"}"#.into(), Some((409_001, "there"))),
        (r#"{"id":"none","importMode":"update"}"#.into(), Some((404_001, "none"))),
        (r#"{"id":"gone","importMode":"delete"}"#.into(), Some((404_001, "gone"))),
        (
            r#"{"id":"there-2","importMode":"updateTwinIfMatchETag","twinETag":"MA==","tags":{}}"#.into(),
            Some((412_001, "there-2")),
        ),
        (r#"{"id":"nobody","moduleId":"m"}"#.into(), Some((404_001, "nobody"))),
        (r#"{"id":"good-2"}"#.into(), None),
    ];
    let text: String = cases.iter().map(|(line, _)| format!("{line}\n")).collect();
    std::fs::write(root.path().join("in/devices.txt"), text).expect("written");
    let mut stale: Value = serde_json::from_str(CONFIGURATION).expect("JSON");
    (stale["priority"], stale["importMode"]) = (7.into(), "createOrUpdateIfMatchETag".into());
    let configurations = format!("{CONFIGURATION}\n{stale}\n{{\"id\":\"bad\"}}\n{{\n");
    std::fs::write(root.path().join("in/configurations.txt"), configurations).expect("written");
    let mut body = import_from(&url(root.path(), "in"), &url(root.path(), "out"));
    body["includeConfigurations"] = true.into();
    let job = run(&server, &body).await;
    assert_eq!((&job["status"], &job["doneCount"]), (&json!("completed"), &json!(3)), "{job}");
    let expected = cases.iter().zip(1u64..).filter_map(|((_, told), line)| {
        let (code, id) = (*told)?;
        Some((line, code, Some(id.to_owned())))
    });
    let mut expected: Vec<_> = expected.collect();
    expected.extend([(2, 409_401, None), (3, 400_402, None), (4, 400_006, None)]);
    assert_eq!(job["failedCount"], expected.len());
    let told = read(root.path(), "out/importErrors.log");
    let short = |error: &Value| {
        assert!(error["errorStatus"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
        let id = error["deviceId"].as_str().map(String::from);
        (error["line"].as_u64().expect("a line"), error["errorCode"].as_u64().expect("a number"), id)
    };
    assert_eq!(told.iter().map(short).collect::<Vec<_>>(), expected);
    assert_eq!(told[expected.len() - 2]["configurationId"], "bad");
    for id in ["good-1", "good-2", "there"] {
        server.get(&format!("/devices/{id}")).await.ok();
    }
    server.get("/configurations/eco").await.ok();
}

#[tokio::test]
async fn lines_that_are_too_large_together_go_one_by_one() {
    let root = folders();
    let server = Server::start_with(policy(root.path())).await;
    server.create("d050").await;
    let section: serde_json::Map<_, _> = (0..7).map(|n| (format!("k{n}"), "x".repeat(4000).into())).collect();
    let line = |n: usize| {
        let properties = json!({ "desired": section, "reported": section });
        json!({ "id": format!("d{n:03}"), "importMode": "create", "properties": properties }).to_string()
            + "\n"
    };
    let text: String = (0..200).map(|n| if n == 60 { "{\n".into() } else { line(n) }).collect();
    std::fs::write(root.path().join("in/devices.txt"), text).expect("written");
    let job = run(&server, &import_from(&url(root.path(), "in"), &url(root.path(), "out"))).await;
    assert_eq!((&job["doneCount"], &job["failedCount"]), (&json!(198), &json!(2)), "{job}");
    let told = read(root.path(), "out/importErrors.log");
    let told: Vec<_> =
        told.iter().map(|error| (error["line"].as_u64(), error["errorCode"].as_u64())).collect();
    assert_eq!(told, [(Some(51), Some(409_001)), (Some(61), Some(400_006))]);
    assert_eq!(server.get("/statistics/devices").await.ok()["totalDeviceCount"], 199);
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_and_leaves_no_job() {
    let root = folders();
    let server = Server::start_with(policy(root.path())).await;
    let (input, output) = (url(root.path(), "in"), url(root.path(), "out"));
    let with = |changes: Value| {
        let mut body = import_from(&input, &output);
        changes.as_object().expect("an object").iter().for_each(|(name, value)| body[name] = value.clone());
        body
    };
    for (changes, status, name, says) in [
        (json!({ "type": null }), 400, "ArgumentNull", "type"),
        (json!({ "type": "backup" }), 400, "ArgumentInvalid", "'backup'"),
        (json!({ "inputBlobContainerUri": null }), 400, "ArgumentNull", "inputBlobContainerUri"),
        (json!({ "outputBlobContainerUri": "" }), 400, "ArgumentNull", "outputBlobContainerUri"),
        (json!({ "outputBlobContainerUri": "x".repeat(5000) }), 400, "ArgumentInvalid", "4096"),
        (
            json!({ "storageAuthenticationType": "identityBased" }),
            400,
            "ManagedIdentityNotEnabled",
            "keyBased",
        ),
        (json!({ "storageAuthenticationType": "other" }), 400, "ArgumentInvalid", "'other'"),
        (json!({ "inputBlobContainerUri": "fleet" }), 400, "BlobContainerValidationError", "not a URL"),
        (
            json!({ "inputBlobContainerUri": "file:///etc" }),
            400,
            "BlobContainerValidationError",
            "bulk.folder",
        ),
        (
            json!({ "outputBlobContainerUri": "file:///etc" }),
            400,
            "BlobContainerValidationError",
            "bulk.folder",
        ),
        (
            json!({ "outputBlobContainerUri": format!("{output}/..%2f..") }),
            400,
            "BlobContainerValidationError",
            "'..'",
        ),
        (
            json!({ "outputBlobContainerUri": "https://a.blob.core.windows.net/c?sig=secret" }),
            400,
            "BlobContainerValidationError",
            "bulk.stores",
        ),
        (json!({ "inputBlobName": "../devices.txt" }), 400, "BlobContainerValidationError", "'..'"),
        (json!({}), 400, "BlobContainerValidationError", "Failed to read devices blob"),
        (
            json!({ "type": "export", "outputBlobName": "x", "includeConfigurations": true, "configurationsBlobName": "x" }),
            400,
            "ArgumentInvalid",
            "both",
        ),
    ] {
        let words = server.send("post", "/jobs/create", &with(changes.clone())).await.error(status, name);
        assert!(words.contains(says) && !words.contains("secret"), "{changes}: {words}");
    }
    server.send_raw("post", "/jobs/create", "[]").await.error(400, "IotHubFormatError");
    assert_eq!(server.get("/jobs").await.ok(), json!([]));
    let none = Server::start().await;
    let words = none.send("post", "/jobs/create", &with(json!({}))).await;
    let words = words.error(400, "BlobContainerValidationError");
    assert!(words.contains("bulk.folder"), "{words}");
}

#[tokio::test]
async fn jobs_are_read_listed_and_cancelled() {
    let root = folders();
    let store = BlobServer::start().await;
    let server =
        Server::start_with(ContainerPolicy { timeout: WAIT, ..policy_for(root.path(), &store) }).await;
    for (method, path) in [("get", "/jobs/none"), ("delete", "/jobs/none"), ("get", "/jobs/v2/none")] {
        crate::support::Reply::of(server.request(method, path)).await.error(404, "JobNotFound");
    }
    let export = json!({ "type": "export", "outputBlobContainerUri": url(root.path(), "out") });
    let done = run(&server, &export).await;
    let id = done["jobId"].as_str().expect("an id");
    assert_eq!(server.get(&format!("/jobs/v2/{id}")).await.ok()["status"], "unknown");
    server.delete(&format!("/jobs/{id}")).await.error(409, "GenericConflict");
    // Two wait for a store that is silent, others for their turn.
    store.set_fault(Fault::Stall);
    let silent = json!({ "type": "export", "outputBlobContainerUri": store.azure("fleet") });
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(server.send("post", "/jobs/create", &silent).await.ok());
    }
    for job in &jobs {
        assert_eq!(job["outputBlobContainerUri"], format!("http://{}/account/fleet", store.address()));
    }
    let list = server.get("/jobs").await.ok();
    assert_eq!(list.as_array().map(Vec::len), Some(5), "{list}");
    assert!(!list.to_string().contains("sig="), "{list}");
    for job in jobs.iter().rev() {
        let path = format!("/jobs/{}", job["jobId"].as_str().expect("an id"));
        server.delete(&path).await.is(204);
        let job = server.get(&path).await.ok();
        assert_eq!((&job["status"], &job["failureReason"]), (&json!("cancelled"), &Value::Null), "{job}");
    }
}

#[tokio::test]
async fn more_jobs_than_may_wait_are_refused() {
    let root = folders();
    let store = BlobServer::start().await;
    let server =
        Server::start_with(ContainerPolicy { timeout: WAIT, ..policy_for(root.path(), &store) }).await;
    store.set_fault(Fault::Stall);
    let silent = json!({ "type": "export", "outputBlobContainerUri": store.azure("fleet") });
    let first = server.send("post", "/jobs/create", &silent).await.ok();
    for _ in 1..hub_engine::config::TRANSFERS_UNFINISHED_MAX {
        server.send("post", "/jobs/create", &silent).await.ok();
    }
    server.send("post", "/jobs/create", &silent).await.error(403, "JobQuotaExceeded");
    let path = |job: &Value| format!("/jobs/{}", job["jobId"].as_str().expect("an id"));
    server.delete(&path(&first)).await.is(204);
    let list = server.get("/jobs").await.ok();
    let waiting =
        list.as_array().expect("a list").iter().find(|job| job["status"] == "enqueued").expect("one waits");
    server.delete(&path(waiting)).await.is(204);
    server.send("post", "/jobs/create", &silent).await.ok();
}

#[tokio::test]
async fn an_import_is_cancelled_while_it_runs() {
    let root = folders();
    let store = BlobServer::start().await;
    let server =
        Server::start_with(ContainerPolicy { timeout: WAIT, ..policy_for(root.path(), &store) }).await;
    let fleet: String = (0..1000).map(|n| format!("{{\"id\":\"d{n:04}\"}}\n")).collect();
    let fleet = fleet.replacen("d0000", "d 000", 1);
    store.put("account/fleet/devices.txt", fleet);
    store.set_fault(Fault::StallWithin);
    let body = import_from(&store.azure("fleet"), &url(root.path(), "out"));
    let job = server.send("post", "/jobs/create", &body).await.ok();
    let path = format!("/jobs/{}", job["jobId"].as_str().expect("an id"));
    let half = async {
        while server.get("/statistics/devices").await.ok()["totalDeviceCount"] != 499 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WAIT, half).await.expect("half of it is imported");
    let progress = server.get(&path).await.ok();
    assert_eq!((&progress["status"], &progress["progress"]), (&json!("running"), &json!(50)), "{progress}");
    server.delete(&path).await.is(204);
    assert_eq!(server.get(&path).await.ok()["status"], "cancelled");
    // What was refused before is told all the same.
    let log = async {
        loop {
            match read(root.path(), "out/importErrors.log") {
                told if told.is_empty() => tokio::time::sleep(Duration::from_millis(5)).await,
                told => return told,
            }
        }
    };
    let told = tokio::time::timeout(WAIT, log).await.expect("a log");
    assert_eq!((told.len(), &told[0]["line"]), (1, &json!(1)), "{told:?}");
    // Nothing of it is left that would keep the next one from its place.
    store.set_fault(Fault::None);
    assert_eq!(run(&server, &body).await["status"], "completed");
    assert_eq!(server.get("/statistics/devices").await.ok()["totalDeviceCount"], 999);
}

#[tokio::test]
async fn both_kinds_of_stores_carry_a_fleet() {
    let root = folders();
    let store = BlobServer::start().await;
    let server = Server::start_with(policy_for(root.path(), &store)).await;
    for (container, path) in [(store.azure("fleet"), "account/fleet"), ("s3://fleet/x".into(), "fleet/x")] {
        let fleet: String =
            (0..300).map(|n| format!("{{\"id\":\"d{n:04}\",\"tags\":{{\"p\":\"{path}\"}}}}\n")).collect();
        store.put(&format!("{path}/devices.txt"), fleet);
        let job = run(&server, &import_from(&container, &container)).await;
        assert_eq!((&job["status"], &job["doneCount"]), (&json!("completed"), &json!(300)), "{job}");
        assert_eq!(store.blob(&format!("{path}/importErrors.log")).expect("a log"), "");
        let export =
            json!({ "type": "export", "outputBlobContainerUri": container, "outputBlobName": "back.txt" });
        assert_eq!(run(&server, &export).await["status"], "completed");
        let back = lines(&store.blob(&format!("{path}/back.txt")).expect("exported"));
        assert_eq!(back.len(), 300);
        assert!(back.iter().all(|line| line["tags"]["p"] == path));
    }
}

#[tokio::test]
async fn a_container_that_fails_fails_the_job_with_its_reason() {
    let root = folders();
    let store = BlobServer::start().await;
    let server = Server::start_with(policy_for(root.path(), &store)).await;
    store.put("account/fleet/devices.txt", "{\"id\":\"a\"}\n".repeat(2000));
    std::fs::write(root.path().join("in/devices.txt"), "{\"id\":\"b\"}\n").expect("written");
    std::fs::write(root.path().join("file"), "").expect("written");
    let (azure, out) = (store.azure("fleet"), url(root.path(), "out"));
    let export = |to: &str| json!({ "type": "export", "outputBlobContainerUri": to });
    for (fault, body, says) in [
        (Fault::Answer(403), import_from(&azure, &out), "403"),
        (Fault::Answer(500), import_from(&azure, &out), "500"),
        (Fault::Stall, import_from(&azure, &out), "did not answer within 2 s"),
        (Fault::StallWithin, import_from(&azure, &out), "fell silent for 2 s"),
        (Fault::Answer(403), export(&azure), "403"),
        (Fault::Stall, export(&azure), "did not answer within 2 s"),
        (Fault::RefuseWrites(403), import_from(&azure, &azure), "Failed to write importErrors.log"),
        (Fault::RefuseWrites(403), export(&azure), "403"),
        (Fault::None, import_from(&url(root.path(), "in"), &url(root.path(), "file")), "cannot be entered"),
        (
            Fault::None,
            import_from(&url(root.path(), "in"), &url(root.path(), "none")),
            "'none' cannot be entered",
        ),
        (Fault::None, export(&url(root.path(), "file")), "cannot be entered"),
    ] {
        store.set_fault(fault);
        let job = run(&server, &body).await;
        let reason = job["failureReason"].as_str().unwrap_or_default();
        assert_eq!(job["status"], "failed", "{fault:?}: {job}");
        assert!(reason.contains(says), "{fault:?}: {job}");
        assert!(!job.to_string().contains("cret"), "{job}");
    }
    assert_eq!(
        server.get("/statistics/devices").await.ok()["totalDeviceCount"],
        1,
        "only what came before the silence"
    );
}

#[tokio::test]
async fn rights_are_asked_for() {
    let root = folders();
    let server = Server::start_with(policy(root.path())).await;
    let body = json!({ "type": "export", "outputBlobContainerUri": url(root.path(), "out") });
    let job = run(&server, &body).await;
    let path = format!("/jobs/{}", job["jobId"].as_str().expect("an id"));
    for (policy, method, path, allowed) in [
        ("registryRead", "post", "/jobs/create", false),
        ("service", "post", "/jobs/create", false),
        ("registryReadWrite", "post", "/jobs/create", true),
        ("registryRead", "get", "/jobs", true),
        ("registryRead", "get", &path, true),
        ("service", "get", &path, false),
        ("registryRead", "delete", &path, false),
    ] {
        let request =
            server.anonymous(method, path).header("Authorization", server.test.policy_token(policy));
        let reply = crate::support::Reply::of(request.json(&body)).await;
        assert_eq!(
            reply.status,
            if allowed { 200 } else { 401 },
            "{policy} {method} {path}: {}",
            reply.text()
        );
    }
}
