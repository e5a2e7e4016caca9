//! Fleets as streams of lines: every mode, every kind of broken line, packed bodies, and a whole trip to another hub.

use std::io;

use async_compression::tokio::bufread::{GzipDecoder, GzipEncoder, ZstdDecoder, ZstdEncoder};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::support::{Reply, Server};

const KEYS: &str = r#""authentication":{"type":"sas","symmetricKey":{"primaryKey":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","secondaryKey":"BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA="}}"#;

/// A line as the service exports it.
fn service_line() -> String {
    format!(
        r#"{{"id":"pump-17","eTag":"MQ==","status":"disabled","statusReason":"first",{KEYS},"twinETag":"AAAAAAAAAAI=","tags":{{"room":"1"}},"properties":{{"desired":{{"t":75.1,"$metadata":{{"$lastUpdated":"2025-01-02T03:04:05.6Z","$lastUpdatedVersion":12,"t":{{"$lastUpdated":"2025-01-02T03:04:05.6Z","$lastUpdatedVersion":11}}}},"$version":12}},"reported":{{"fw":"1.2","$metadata":{{"$lastUpdated":"2025-01-03T00:00:00Z","fw":{{"$lastUpdated":"2025-01-03T00:00:00Z"}}}},"$version":4}}}},"capabilities":{{"iotEdge":false}},"parentScopes":[]}}"#
    )
}

async fn packed(text: &str, coding: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = match coding {
        "gzip" => GzipEncoder::new(text.as_bytes()).read_to_end(&mut bytes).await,
        "zstd" => ZstdEncoder::new(text.as_bytes()).read_to_end(&mut bytes).await,
        _ => text.as_bytes().read_to_end(&mut bytes).await,
    };
    read.expect("memory can be read");
    bytes
}

async fn unpacked(reply: &Reply) -> String {
    let mut text = String::new();
    let body = reply.body.as_slice();
    let read = match reply.header("content-encoding") {
        Some("gzip") => GzipDecoder::new(body).read_to_string(&mut text).await,
        Some("zstd") => ZstdDecoder::new(body).read_to_string(&mut text).await,
        _ => tokio::io::BufReader::new(body).read_to_string(&mut text).await,
    };
    read.expect("a body as its header says");
    text
}

async fn import(server: &Server, text: impl Into<reqwest::Body>) -> Value {
    server.send_raw("post", "/api/import", text).await.ok()
}

async fn export(server: &Server, query: &str) -> Vec<Value> {
    let reply = server.get(&format!("/api/export?{query}")).await;
    reply.is(200);
    reply.text().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// What a hub gives anew wherever it imports.
fn without_etags(mut lines: Vec<Value>) -> Vec<Value> {
    for line in &mut lines {
        for name in ["eTag", "twinETag"] {
            assert!(line[name].is_string(), "{line}");
            line[name] = Value::Null;
        }
    }
    lines
}

#[tokio::test]
async fn an_export_imports_unchanged() {
    let from = Server::start().await;
    let lines = [
        service_line(),
        r#"{"id":"x509","authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"A9993E364706816ABA3E25717850C26C9CD0D89D"}}}"#.into(),
        r#"{"id":"gateway","capabilities":{"iotEdge":true}}"#.into(),
        format!(r#"{{"id":"gateway","moduleId":"camera","managedBy":"somebody",{KEYS},"properties":{{"desired":{{"a":{{"b":[1]}}}}}}}}"#),
    ];
    let result = import(&from, lines.join("\r\n")).await;
    assert_eq!((&result["done"], &result["failed"]), (&json!(4), &json!(0)), "{result}");

    let twin = from.get("/twins/pump-17").await.ok();
    assert_eq!(twin["properties"]["desired"]["$version"], 12, "{twin}");
    assert_eq!(twin["properties"]["desired"]["$metadata"]["t"]["$lastUpdatedVersion"], 11);
    assert_eq!(twin["properties"]["desired"]["$metadata"]["$lastUpdated"], "2025-01-02T03:04:05.6000000Z");
    assert_eq!(twin["properties"]["reported"]["fw"], "1.2");
    assert_eq!(twin["properties"]["reported"]["$version"], 4);
    let device = from.get("/devices/pump-17").await.ok();
    assert_eq!(device["status"], "disabled");
    assert_eq!(
        device["authentication"]["symmetricKey"]["primaryKey"],
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    );

    let to = Server::start().await;
    let reply = from.get("/api/export?keys=true").await;
    let imported = import(&to, reply.body).await;
    // Two devices, one of them a gateway, and its three modules.
    assert_eq!((&imported["done"], &imported["failed"]), (&json!(6), &json!(0)), "{imported}");
    let (mut there, mut here) =
        (without_etags(export(&to, "keys=true").await), without_etags(export(&from, "keys=true").await));
    // The scope of a gateway is its own on every hub.
    for line in there.iter_mut().chain(&mut here) {
        if line["id"] == "gateway" && line.get("deviceScope").is_some() {
            line["deviceScope"] = Value::Null;
        }
    }
    // The modules of the gateway came with it, so their twins are not created by their lines.
    let own = |line: &Value| line["moduleId"].as_str().is_some_and(|module| module.starts_with('$'));
    there.retain(|line| !own(line));
    here.retain(|line| !own(line));
    assert_eq!(there, here);
    assert_eq!(here.len(), 4);
}

#[tokio::test]
async fn keys_and_modules_are_left_out_unless_wanted() {
    let server = Server::start().await;
    server.test.register("d").await;
    server.test.register("d/m").await;
    let lines = export(&server, "").await;
    assert_eq!(lines.len(), 2);
    for line in &lines {
        let none = json!({ "primaryKey": null, "secondaryKey": null });
        assert_eq!(line["authentication"]["symmetricKey"], none, "{line}");
    }
    assert_eq!((&lines[1]["id"], &lines[1]["moduleId"]), (&json!("d"), &json!("m")));
    let lines = export(&server, "modules=false&keys=true").await;
    assert_eq!(lines.len(), 1);
    assert!(lines[0].get("moduleId").is_none());
    assert!(lines[0]["authentication"]["symmetricKey"]["primaryKey"].is_string());

    let reader = server.test.policy_token("registryRead");
    let ask = |query: &str| {
        let request = server.anonymous("get", &format!("/api/export?{query}"));
        Reply::of(request.header("Authorization", &reader))
    };
    ask("keys=true").await.error(401, "IotHubUnauthorizedAccess");
    ask("keys=false").await.is(200);
    ask("keys=perhaps").await.error(400, "ArgumentInvalid");
}

#[tokio::test]
async fn every_broken_line_is_named_and_harms_no_other() {
    let server = Server::start().await;
    server.create("there").await;
    let long = format!(r#"{{"id":"long","statusReason":"{}"}}"#, "x".repeat(256 * 1024));
    let lines: Vec<(String, Option<&str>)> = vec![
        (r#"{"id":"good-1","importMode":"create"}"#.into(), None),
        ("".into(), None),
        ("# a comment".into(), None),
        (r#"{"id":"broken""#.into(), Some("IotHubFormatError")),
        (r#"{"id":"good-1"}"#.into(), Some("ArgumentInvalid")),
        (long, Some("GenericRequestEntityTooLarge")),
        (r#"{"id":"wrong-mode","importMode":"replace"}"#.into(), Some("ArgumentInvalid")),
        (
            r#"{"id":"short-keys","authentication":{"symmetricKey":{"primaryKey":"AAAA","secondaryKey":"AAAA"}}}"#.into(),
            Some("ArgumentInvalid"),
        ),
        (r#"{"id":"there","importMode":"create"}"#.into(), Some("DeviceAlreadyExists")),
        (r#"{"id":"nobody","importMode":"update"}"#.into(), Some("DeviceNotFound")),
        (r#"{"id":"nobody-2","importMode":"delete"}"#.into(), Some("DeviceNotFound")),
        (r#"{"id":"nobody-3","importMode":"updateTwin","tags":{}}"#.into(), Some("DeviceNotFound")),
        (r#"{"id":"nobody-4","moduleId":"m"}"#.into(), Some("DeviceNotFound")),
        (r#"{"id":"bad id"}"#.into(), Some("ArgumentInvalid")),
        (r#"{"tags":{}}"#.into(), Some("ArgumentInvalid")),
        (r#"{"id":"bad-tags","tags":[1]}"#.into(), Some("ArgumentInvalid")),
        (r#"{"id":"bad-reported","properties":{"reported":7}}"#.into(), Some("ArgumentInvalid")),
        (r#"{"id":"good-2","properties":{"desired":{"$version":"?","$metadata":7}}}"#.into(), None),
        ("{\"id\":\"\u{1}\"}".into(), Some("IotHubFormatError")),
        (r#"{"id":"good-3","tags":{"a":null}}"#.into(), None),
    ];
    let text: String = lines.iter().map(|(line, _)| format!("{line}\n")).collect();
    let result = import(&server, text).await;
    let expected: Vec<(u64, &str)> =
        lines.iter().zip(1..).filter_map(|((_, code), number)| Some((number, (*code)?))).collect();
    let told = result["errors"].as_array().expect("errors");
    let told: Vec<(u64, &str)> = told
        .iter()
        .map(|error| {
            assert!(error["errorStatus"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
            (error["line"].as_u64().expect("a number"), error["errorCode"].as_str().expect("a code"))
        })
        .collect();
    assert_eq!(told, expected, "{result:#}");
    let counted = json!([result["lines"], result["done"], result["failed"], result["skipped"]]);
    assert_eq!(counted, json!([20, 3, expected.len(), 2]));
    let names: Vec<_> = export(&server, "").await.iter().map(|line| line["id"].clone()).collect();
    assert_eq!(names, ["good-1", "good-2", "good-3", "there"]);
}

#[tokio::test]
async fn every_mode_does_what_the_table_of_s_3_says() {
    let server = Server::start().await;
    let there = server.create("there").await;
    let etag = there["etag"].as_str().expect("an etag");
    // Mode, etag of the line, whether it is carried out on a device that is not there, and on one that is.
    for (mode, line_etag, absent, present) in [
        ("create", "", true, false),
        ("createOrUpdate", "MA==", true, true),
        ("update", "MA==", false, true),
        ("updateIfMatchETag", "right", false, true),
        ("updateIfMatchETag", "MA==", false, false),
        ("updateIfMatchETag", "", false, false),
        ("createOrUpdateIfMatchETag", "right", true, true),
        ("createOrUpdateIfMatchETag", "MA==", true, false),
        ("createOrUpdateIfMatchETag", "", true, false),
        ("updateTwin", "MA==", false, true),
        ("updateTwinIfMatchETag", "right", false, true),
        ("updateTwinIfMatchETag", "MA==", false, false),
        ("updateTwinIfMatchETag", "", false, false),
        ("deleteIfMatchETag", "MA==", false, false),
        ("deleteIfMatchETag", "", false, false),
        ("deleteIfMatchETag", "right", false, true),
        ("delete", "MA==", false, true),
        ("CREATEORUPDATE", "", true, true),
    ] {
        for (id, done) in [("absent", absent), ("present", present)] {
            let present = server.create("present").await;
            let mut line = json!({ "id": id, "importMode": mode, "tags": { "mode": mode } });
            match (line_etag, mode.contains("Twin")) {
                ("", _) => {}
                ("right", true) => line["twinETag"] = "AAAAAAAAAAE=".into(),
                ("right", false) => line["eTag"] = present["etag"].clone(),
                (other, true) => line["twinETag"] = other.into(),
                (other, false) => line["eTag"] = other.into(),
            }
            let result = import(&server, line.to_string()).await;
            assert_eq!(result["done"], u64::from(done), "{mode} {line_etag} {id}: {result}");
            let twin = server.get(&format!("/twins/{id}")).await;
            match done {
                true if mode.starts_with("delete") => twin.is(404),
                true => assert_eq!(twin.ok()["tags"]["mode"], mode),
                false => assert!(twin.status == 404 || twin.json()["tags"].is_null(), "{mode} {id}"),
            }
            server.delete("/devices/absent").await;
            server.delete("/devices/present").await;
        }
    }
    // Lines without a mode of their own take that of the request.
    let result = server.send_raw("post", "/api/import?mode=create", r#"{"id":"there"}"#).await.ok();
    assert_eq!(result["errors"][0]["errorCode"], "DeviceAlreadyExists");
    server.send_raw("post", "/api/import?mode=replace", "").await.error(400, "ArgumentInvalid");
    assert_eq!(server.get("/devices/there").await.ok()["etag"], etag);
}

#[tokio::test]
async fn bodies_may_be_packed_both_ways() {
    let server = Server::start().await;
    for (index, coding) in ["identity", "gzip", "zstd"].into_iter().enumerate() {
        let text: String = (0..300).map(|n| format!("{{\"id\":\"{coding}-{n:03}\"}}\n")).collect();
        let request = server.request("post", "/api/import").header("Content-Encoding", coding);
        let result = Reply::of(request.body(packed(&text, coding).await)).await.ok();
        assert_eq!(result["done"], 300, "{coding}: {result}");
        let request = server.request("get", "/api/export").header("Accept-Encoding", coding);
        let reply = Reply::of(request).await;
        assert_eq!(reply.header("content-encoding"), Some(coding).filter(|coding| *coding != "identity"));
        let text = unpacked(&reply).await;
        assert_eq!(text.lines().count(), 300 * (index + 1), "{coding}");
    }
    let request = server.request("post", "/api/import").header("Content-Encoding", "br");
    Reply::of(request.body("x")).await.error(415, "GenericUnsupportedMediaType");
    for coding in ["gzip", "zstd"] {
        let mut bytes = packed("{\"id\":\"cut\"}\n", coding).await;
        bytes.truncate(bytes.len() - 5);
        let request = server.request("post", "/api/import").header("Content-Encoding", coding);
        let words = Reply::of(request.body(bytes)).await.error(400, "IotHubFormatError");
        assert!(words.contains("after line"), "{words}");
    }
}

#[tokio::test]
async fn more_failures_than_are_shown_are_counted() {
    let server = Server::start().await;
    let lines = (0..30).map(|chunk| {
        let text: String = (0..50)
            .map(|n| format!("{{\"id\":\"d{}\",\"importMode\":\"delete\"}}\n", chunk * 50 + n))
            .collect();
        Ok::<_, io::Error>(text)
    });
    let result = import(&server, reqwest::Body::wrap_stream(stream::iter(lines))).await;
    assert_eq!((&result["failed"], &result["done"]), (&json!(1500), &json!(0)));
    let errors = result["errors"].as_array().expect("errors");
    assert_eq!((errors.len(), &errors[999]["line"]), (1000, &json!(1000)));
}

#[tokio::test]
async fn imports_that_break_off_can_be_repeated() {
    let server = Server::start().await;
    let text: String = (0..250).map(|n| format!("{{\"id\":\"d{n}\"}}\n")).collect();
    // More than may run at once, so that one which does not end would show.
    for _ in 0..10 {
        let pieces = vec![Ok(text[..1000].to_string()), Err(io::Error::other("gone"))];
        let body = reqwest::Body::wrap_stream(stream::iter(pieces));
        server.request("post", "/api/import").body(body).send().await.expect_err("the client broke it off");
    }
    let whole = async {
        loop {
            let reply = server.send_raw("post", "/api/import", text.clone()).await;
            if reply.status != 429 {
                return reply.ok();
            }
        }
    };
    let result = tokio::time::timeout(std::time::Duration::from_secs(30), whole).await;
    assert_eq!(result.expect("the broken ones have ended")["done"], 250);
    assert_eq!(export(&server, "").await.len(), 250);
}
