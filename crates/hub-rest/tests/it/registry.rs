//! Devices and modules of the registry: preconditions, conflicts, keys, many at once, counts.

use futures_util::future::join_all;
use hub_domain::id::TwinId;
use hub_domain::sas::{SymmetricKey, make_token};
use hub_domain::time::Timestamp;
use hub_engine::access::Credential;
use hub_testkit::{HOSTNAME, START_SECONDS};
use serde_json::{Value, json};

use crate::support::{Reply, Server};

fn etag(body: &Value) -> String {
    body["etag"].as_str().expect("an etag").to_string()
}

/// Every spelling of a header that is met by this etag, and some that are not.
fn spellings(etag: &str) -> [(String, bool); 9] {
    [
        (format!("\"{etag}\""), true),
        (etag.to_string(), true),
        (format!("W/\"{etag}\""), true),
        ("*".into(), true),
        ("\"*\"".into(), true),
        (format!(" \"{etag}\" "), true),
        ("\"AAAA\"".into(), false),
        (format!("\"{etag}x\""), false),
        (etag.to_lowercase() + "x", false),
    ]
}

#[tokio::test]
async fn a_device_is_created_once_and_changed_only_as_it_was_read() {
    let server = Server::start().await;
    let reply = server.send("put", "/devices/d", &json!({ "deviceId": "d", "statusReason": "new" })).await;
    let created = reply.ok();
    assert_eq!(reply.header("etag"), Some(format!("\"{}\"", etag(&created)).as_str()));
    assert_eq!(created["deviceId"], "d");
    assert_eq!((&created["status"], &created["statusReason"]), (&json!("enabled"), &json!("new")));
    assert_eq!(created["connectionState"], "Disconnected");
    assert_eq!(created["capabilities"], json!({ "iotEdge": false }));
    assert_eq!(server.get("/devices/d").await.ok(), created);
    let again = server.send("put", "/devices/d", &json!({ "deviceId": "d" })).await;
    assert_eq!(again.error(409, "DeviceAlreadyExists"), "A device with ID 'd' is already registered.");
    assert_eq!(server.get("/devices/d").await.ok(), created);

    for turn in 0..9 {
        let before = server.get("/devices/d").await.ok();
        let (header, met) = spellings(&etag(&before))[turn].clone();
        let body =
            json!({ "statusReason": format!("turn {turn}"), "authentication": before["authentication"] });
        let reply = server.send_if("put", "/devices/d", &header, &body).await;
        if met {
            let after = reply.ok();
            assert_ne!(etag(&after), etag(&before), "{header}");
            assert_eq!(after["statusReason"], format!("turn {turn}"));
            assert_eq!(after["generationId"], before["generationId"]);
            assert_eq!(after["authentication"], before["authentication"]);
            let stale = server.send_if("put", "/devices/d", &etag(&before), &body).await;
            stale.error(412, "PreconditionFailed");
        } else {
            assert_eq!(reply.error(412, "PreconditionFailed"), "Precondition failed: Invalid ETag");
            assert_eq!(server.get("/devices/d").await.ok(), before, "{header}");
        }
    }
}

#[tokio::test]
async fn what_is_deleted_is_gone_and_what_is_not_there_cannot_be_changed() {
    let server = Server::start().await;
    for header in ["*", "\"x\""] {
        server.send_if("put", "/devices/d", header, &json!({})).await.error(404, "DeviceNotFound");
    }
    for path in ["/devices/d", "/devices/d/modules", "/devices/d/modules/m", "/twins/d", "/twins/d/modules/m"]
    {
        server.get(path).await.error(404, "DeviceNotFound");
    }
    server.delete("/devices/d").await.error(404, "DeviceNotFound");
    let mut generations = Vec::new();
    for turn in 0..9 {
        let device = server.create("d").await;
        server.send("patch", "/twins/d", &json!({ "tags": { "a": 1 } })).await.ok();
        generations.push(device["generationId"].clone());
        let (header, met) = spellings(&etag(&device))[turn].clone();
        let reply = Reply::of(server.request("delete", "/devices/d").header("If-Match", &header)).await;
        if met {
            reply.is(204);
            assert!(reply.body.is_empty());
            server.get("/devices/d").await.error(404, "DeviceNotFound");
        } else {
            reply.error(412, "PreconditionFailed");
            assert_eq!(server.get("/devices/d").await.ok(), device, "{header}");
            server.delete("/devices/d").await.is(204);
        }
    }
    server.create("d").await;
    assert_eq!(
        server.get("/twins/d").await.ok().get("tags"),
        None,
        "a new device has nothing of the old one"
    );
}

#[tokio::test]
async fn of_many_who_write_at_once_one_wins() {
    let server = Server::start().await;
    let empty = json!({});
    let created = join_all((0..8).map(|_| server.send("put", "/devices/d", &empty))).await;
    let statuses = |replies: &[Reply]| {
        let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
        statuses.sort_unstable();
        statuses
    };
    assert_eq!(statuses(&created), [200, 409, 409, 409, 409, 409, 409, 409]);
    let etag = etag(&server.get("/devices/d").await.ok());
    let bodies: Vec<_> = (0..8).map(|n| json!({ "statusReason": format!("writer {n}") })).collect();
    let written = join_all(bodies.iter().map(|body| server.send_if("put", "/devices/d", &etag, body))).await;
    assert_eq!(statuses(&written), [200, 412, 412, 412, 412, 412, 412, 412]);
    let winner = written.iter().position(|reply| reply.status == 200).expect("one won");
    let device = server.get("/devices/d").await.ok();
    assert_eq!(device["statusReason"], format!("writer {winner}"), "and what it wrote stands");
}

#[tokio::test]
async fn what_an_identity_may_not_be_is_refused() {
    let server = Server::start().await;
    let keys = |primary: &str, secondary: &str| json!({ "authentication": { "type": "sas", "symmetricKey": { "primaryKey": primary, "secondaryKey": secondary } } });
    let good = SymmetricKey::from_bytes(vec![1; 32]).expect("a key").to_base64();
    let before = server.snapshot().await;
    for (body, part) in [
        (json!({ "status": "asleep" }), "'asleep'"),
        (json!({ "statusReason": "x".repeat(129) }), "128"),
        (keys("no base64", &good), "primaryKey"),
        (keys(&good, "AAAA"), "secondaryKey"),
        (json!({ "authentication": { "type": "magic" } }), "magic"),
        (
            json!({ "authentication": { "type": "selfSigned", "x509Thumbprint": { "primaryThumbprint": "xyz" } } }),
            "humbprint",
        ),
    ] {
        let words = server.send("put", "/devices/d", &body).await.error(400, "ArgumentInvalid");
        assert!(words.contains(part), "{part}: {words}");
        assert!(!words.contains(&good), "{words}");
    }
    assert_eq!(server.snapshot().await, before);
    let device = server.send("put", "/devices/d", &keys(&good, &good)).await.ok();
    assert_eq!(device["authentication"]["symmetricKey"], json!({ "primaryKey": good, "secondaryKey": good }));
}

#[tokio::test]
async fn modules_live_and_die_with_their_device() {
    let server = Server::start().await;
    let path = "/devices/d/modules/m";
    server.send("put", path, &json!({})).await.error(404, "DeviceNotFound");
    server.create("d").await;
    server.get(path).await.error(404, "ModuleNotFound");
    let reply = server.send("put", path, &json!({ "moduleId": "m", "managedBy": "us" })).await;
    reply.is(201);
    let module = reply.json();
    assert_eq!(reply.header("etag"), Some(format!("\"{}\"", etag(&module)).as_str()));
    assert_eq!(
        (&module["deviceId"], &module["moduleId"], &module["managedBy"]),
        (&json!("d"), &json!("m"), &json!("us"))
    );
    for absent in ["status", "statusReason", "capabilities", "deviceScope"] {
        assert_eq!(module.get(absent), None, "modules have no {absent} (S 2.4)");
    }
    server.send("put", path, &json!({})).await.error(409, "ModuleAlreadyExistsOnDevice");
    server.send_if("put", path, "\"x\"", &json!({})).await.error(412, "PreconditionFailed");
    server.send_if("put", "/devices/d/modules/none", "*", &json!({})).await.error(404, "ModuleNotFound");
    let changed = server.send_if("put", path, &etag(&module), &json!({ "managedBy": "them" })).await.ok();
    assert_eq!(changed["managedBy"], "them");
    assert_eq!(server.get(path).await.ok(), changed);
    assert_eq!(server.get("/devices/d/modules").await.ok(), json!([changed]));
    server.delete("/devices/d/modules/none").await.error(404, "ModuleNotFound");
    server.delete(path).await.is(204);
    assert_eq!(server.get("/devices/d/modules").await.ok(), json!([]));

    for n in 0..50 {
        server.send("put", &format!("/devices/d/modules/m{n}"), &json!({})).await.is(201);
    }
    let one_more = server.send("put", "/devices/d/modules/m50", &json!({})).await;
    assert!(one_more.error(413, "TooManyModulesOnDevice").contains("50 modules"));
    server.delete("/devices/d").await.is(204);
    server.create("d").await;
    assert_eq!(server.get("/devices/d/modules").await.ok(), json!([]), "they went with the device");
}

#[tokio::test]
async fn counts_and_lists_are_those_of_this_moment() {
    let server = Server::start().await;
    let counts = || async { server.get("/statistics/devices").await.ok() };
    let expected = |enabled: u64, disabled: u64| json!({ "totalDeviceCount": enabled + disabled, "enabledDeviceCount": enabled, "disabledDeviceCount": disabled });
    assert_eq!(counts().await, expected(0, 0));
    for (n, id) in ["c", "a", "b"].into_iter().enumerate() {
        server.create(id).await;
        assert_eq!(counts().await, expected(n as u64 + 1, 0));
    }
    server.send_if("put", "/devices/a", "*", &json!({ "status": "disabled" })).await.ok();
    assert_eq!(counts().await, expected(2, 1));
    let ids = |devices: Value| -> Vec<String> {
        let id = |device: &Value| device["deviceId"].as_str().expect("an id").to_string();
        devices.as_array().expect("a list").iter().map(id).collect()
    };
    assert_eq!(ids(server.get("/devices").await.ok()), ["a", "b", "c"]);
    assert_eq!(ids(server.get("/devices/?top=2").await.ok()), ["a", "b"], "also with a slash behind it");
    assert_eq!(ids(server.get("/devices?top=5000").await.ok()), ["a", "b", "c"]);
    server.delete("/devices/a").await.is(204);
    assert_eq!(counts().await, expected(2, 0));

    let connected = || async { server.get("/statistics/service").await.ok()["connectedDeviceCount"].clone() };
    assert_eq!(connected().await, 0);
    let (id, token) = server.test.register("live").await;
    let who = server.test.hub.authenticate_device(&id, Credential::Token(&token)).expect("its own token");
    let (queue, _downlinks) = hub_engine::downlinks(1);
    let attachment = server.test.hub.attach(&who, &id, true, queue).await.expect("attached");
    assert_eq!(connected().await, 1);
    assert_eq!(server.get("/devices/live").await.ok()["connectionState"], "Connected");
    drop(attachment);
    assert_eq!(connected().await, 0);
}

#[tokio::test]
async fn every_item_of_a_bulk_request_stands_for_itself() {
    let server = Server::start().await;
    server.create("old").await;
    let body = json!([
        { "id": "new", "importMode": "create", "tags": { "a": 1 }, "properties": { "desired": { "p": 2 } } },
        { "id": "old", "importMode": "create" },
        { "id": "none", "importMode": "update" },
        { "id": "a b", "importMode": "create" },
        { "id": "x", "importMode": "dance" },
        { "id": "y", "importMode": "create", "tags": { "a.b": 1 } },
        { "id": "old", "moduleId": "m", "importMode": "create" },
        { "id": "none", "moduleId": "m", "importMode": "create" },
        { "id": "whatever" },
    ]);
    let reply = server.send("post", "/devices/", &body).await;
    reply.is(400);
    for header in ["iothuberrorcode", "iothub-errorcode"] {
        assert_eq!(reply.header(header), Some("BulkRegistryOperationFailure"));
    }
    let result = reply.json();
    assert_eq!((&result["isSuccessful"], &result["warnings"]), (&json!(false), &json!([])));
    let mut errors: Vec<_> = result["errors"]
        .as_array()
        .expect("errors")
        .iter()
        .map(|error| {
            assert!(error["errorStatus"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
            let text = |name: &str| error[name].as_str().expect("a text").to_string();
            (text("deviceId"), text("moduleId"), text("errorCode"))
        })
        .collect();
    errors.sort();
    let expected = [
        ("a b", "", "ArgumentInvalid"),
        ("none", "", "DeviceNotFound"),
        ("none", "m", "DeviceNotFound"),
        ("old", "", "DeviceAlreadyExists"),
        ("x", "", "ArgumentInvalid"),
        ("y", "", "ArgumentInvalid"),
    ];
    assert_eq!(errors, expected.map(|(d, m, c)| (d.into(), m.into(), c.into())));
    let twin = server.get("/twins/new").await.ok();
    assert_eq!((&twin["tags"], &twin["properties"]["desired"]["p"]), (&json!({ "a": 1 }), &json!(2)));
    server.get("/devices/old/modules/m").await.ok();
    server.get("/devices/whatever").await.ok();
    server.get("/devices/y").await.error(404, "DeviceNotFound");

    let fine = json!([{ "id": "new", "importMode": "delete" }, { "id": "whatever", "importMode": "delete" }]);
    let all = server.send("post", "/devices", &fine).await;
    assert_eq!(all.ok(), json!({ "isSuccessful": true, "errors": [], "warnings": [] }));
    assert_eq!(all.header("iothub-errorcode"), None);
}

#[tokio::test]
async fn a_bulk_request_as_a_whole_has_its_limits() {
    let server = Server::start().await;
    let many = |count: usize| {
        Value::from_iter((0..count).map(|n| json!({ "id": format!("d{n}"), "importMode": "create" })))
    };
    let before = server.snapshot().await;
    let words = server.send("post", "/devices", &many(101)).await.error(413, "TooManyDevices");
    assert!(words.contains("101") && words.contains("100"), "{words}");
    let twice = json!([{ "id": "d" }, { "id": "e" }, { "id": "d", "moduleId": "" }]);
    server.send("post", "/devices", &twice).await.error(400, "DeviceDefinedMultipleTimes");
    assert_eq!(server.snapshot().await, before);
    server.send("post", "/devices", &many(100)).await.ok();
    assert_eq!(server.get("/statistics/devices").await.ok()["totalDeviceCount"], 100);
}

#[tokio::test]
async fn bulk_modes_that_name_an_etag_compare_it() {
    let server = Server::start().await;
    // Mode, the field with the etag, and whether it is compared. Case does not matter.
    let modes = [
        ("update", "eTag", false),
        ("updateIfMatchETag", "eTag", true),
        ("updateIfMatchEtag", "eTag", true),
        ("UPDATEIFMATCHETAG", "eTag", true),
        ("createOrUpdate", "eTag", false),
        ("createOrUpdateIfMatchETag", "eTag", true),
        ("createorupdateifmatchetag", "eTag", true),
        ("updateTwin", "twinETag", false),
        ("updateTwinIfMatchETag", "twinETag", true),
        ("updatetwinifmatchetag", "twinETag", true),
        ("deleteIfMatchETag", "eTag", true),
        ("deleteifmatchetag", "eTag", true),
        ("delete", "eTag", false),
    ];
    for (mode, field, compared) in modes {
        if server.get("/devices/d").await.status == 404 {
            server.create("d").await;
        }
        let (device, twin) = (server.get("/devices/d").await.ok(), server.get("/twins/d").await.ok());
        let item = |etag: &str| json!([{ "id": "d", "importMode": mode, field: etag, "statusReason": mode, "tags": { "mode": mode } }]);
        let wrong = server.send("post", "/devices", &item("AAAA")).await;
        if compared {
            wrong.is(400);
            assert_eq!(wrong.json()["errors"][0]["errorCode"], "PreconditionFailed", "{mode}");
            assert_eq!(server.get("/devices/d").await.ok(), device, "{mode}");
            assert_eq!(server.get("/twins/d").await.ok(), twin, "{mode}");
            let etag = if field == "eTag" { etag(&device) } else { etag(&twin) };
            server.send("post", "/devices", &item(&etag)).await.ok();
        } else {
            wrong.ok();
        }
        match mode.to_lowercase().starts_with("delete") {
            true => drop(server.get("/devices/d").await.error(404, "DeviceNotFound")),
            false => assert_eq!(server.get("/twins/d").await.ok()["tags"]["mode"], mode),
        }
    }
}

#[tokio::test]
async fn new_keys_shut_out_who_has_only_the_old_ones() {
    let server = &Server::start().await;
    for name in ["a", "b", "a/m"] {
        server.test.register(name).await;
    }
    server.test.register_x509("x", &"AB".repeat(32)).await;
    let regenerate = |key: &'static str, devices: Value| async move {
        let body = json!({ "policyKey": key, "devices": devices });
        server.send("post", "/devices/keys/regenerate", &body).await
    };
    let keys = |path: &'static str| async move {
        server.get(path).await.ok()["authentication"]["symmetricKey"].clone()
    };
    let lets_in = |key: &Value| {
        let key = SymmetricKey::parse(key.as_str().expect("a key")).expect("a key");
        let token = make_token(
            &format!("{HOSTNAME}/devices/a"),
            &key,
            Timestamp::from_seconds(START_SECONDS + 60),
            None,
        );
        let id = TwinId::parse("a", None).expect("an id");
        server.test.hub.authenticate_device(&id, Credential::Token(&token)).is_ok()
    };
    let first = keys("/devices/a").await;
    assert!(lets_in(&first["primaryKey"]) && lets_in(&first["secondaryKey"]));

    let reply = regenerate("primaryKey", json!([{ "id": "a" }, { "id": "a", "moduleId": "m" }])).await.ok();
    assert_eq!((&reply["policyKey"], &reply["errors"]), (&json!("primaryKey"), &json!([])));
    let second = keys("/devices/a").await;
    assert_eq!(reply["rotatedKeys"][0]["primaryKey"], second["primaryKey"]);
    assert_eq!(reply["rotatedKeys"][1]["moduleId"], "m");
    assert!(
        lets_in(&second["primaryKey"]) && lets_in(&first["secondaryKey"]) && !lets_in(&first["primaryKey"])
    );

    let partial = regenerate("both", json!([{ "id": "b" }, { "id": "none" }, { "id": "x" }])).await;
    partial.is(207);
    let errors = partial.json()["errors"].clone();
    assert_eq!((&errors[0]["id"], &errors[0]["errorCode"]), (&json!("none"), &json!("DeviceNotFound")));
    assert_eq!((&errors[1]["id"], &errors[1]["errorCode"]), (&json!("x"), &json!("ArgumentInvalid")));
    regenerate("secondaryKey", json!([{ "id": "none" }])).await.is(400);
    assert_eq!(keys("/devices/a").await, second, "who was not named keeps his keys");

    let before = server.snapshot().await;
    assert!(
        regenerate("tertiary", json!([{ "id": "a" }]))
            .await
            .error(400, "ArgumentInvalid")
            .contains("'tertiary'")
    );
    regenerate("both", json!([{ "id": "a" }, { "id": "a b" }])).await.error(400, "ArgumentInvalid");
    let many = Value::from_iter((0..101).map(|n| json!({ "id": format!("d{n}") })));
    regenerate("both", many).await.error(413, "TooManyDevices");
    assert_eq!(server.snapshot().await, before);

    // A replacement without keys makes new ones as well.
    let replaced = server.send_if("put", "/devices/a", "*", &json!({})).await.ok();
    assert_ne!(replaced["authentication"]["symmetricKey"], second);
    assert!(!lets_in(&second["primaryKey"]) && !lets_in(&second["secondaryKey"]));
}
