//! Automatic configurations over HTTPS (S 8): the whole life, what each bad input is called, and edge deployments.

use hub_domain::limits::{CONFIGURATION_CONTENT_BYTES_MAX, MODULES_PER_DEVICE_MAX};
use serde_json::{Value, json};

use crate::support::{Reply, Server};

fn device_content(rate: u32) -> Value {
    json!({ "deviceContent": { "properties.desired.rate": rate } })
}

fn body(condition: &str, priority: u32, content: Value) -> Value {
    json!({ "content": content, "targetCondition": condition, "priority": priority })
}

async fn put(server: &Server, id: &str, body: &Value) -> Reply {
    server.send("put", &format!("/configurations/{id}"), body).await
}

/// The desired values of a twin, without what the hub notes of them, once all configurations are done.
async fn desired(server: &Server, twin: &str) -> Value {
    server.settled().await;
    let mut twin = server.get(&format!("/twins/{twin}")).await.ok();
    let mut desired = twin["properties"]["desired"].take();
    desired.as_object_mut().expect("a section").retain(|key, _| !key.starts_with('$'));
    desired
}

async fn fares(server: &Server, twin: &str) -> Value {
    server.settled().await;
    server.get(&format!("/twins/{twin}")).await.ok()["configurations"].clone()
}

async fn edge_device(server: &Server, id: &str) {
    let edge = json!({ "deviceId": id, "capabilities": { "iotEdge": true } });
    server.send("put", &format!("/devices/{id}"), &edge).await.ok();
}

async fn module_names(server: &Server, device: &str) -> Vec<String> {
    server.settled().await;
    let modules = server.get(&format!("/devices/{device}/modules")).await.ok();
    let name = |module: &Value| module["moduleId"].as_str().expect("a name").to_owned();
    modules.as_array().expect("a list").iter().map(name).collect()
}

#[tokio::test]
async fn the_life_of_a_configuration() {
    let server = Server::start().await;
    for (device, site) in [("d1", "a"), ("d2", "a"), ("d3", "b")] {
        server.create(device).await;
        server.send("patch", &format!("/twins/{device}"), &json!({ "tags": { "site": site } })).await.ok();
    }
    let whole = json!({
        "id": "cfg-a", "schemaVersion": "1.0", "contentType": "assignment", "labels": { "team": "x" },
        "content": device_content(5), "targetCondition": "tags.site = 'a'", "priority": 10,
        "metrics": { "queries": { "five": "SELECT deviceId FROM devices WHERE properties.desired.rate = 5" } },
        "systemMetrics": { "results": { "targetedCount": 99 }, "queries": {} }, "etag": "ignored",
    });
    let created = put(&server, "cfg-a", &whole).await;
    let made = created.ok();
    assert_eq!(created.header("etag"), Some(format!("{}", made["etag"]).as_str()), "quoted, as in the body");
    for member in ["id", "schemaVersion", "contentType", "labels", "content", "targetCondition", "priority"] {
        assert_eq!(made[member], whole[member], "{member}");
    }
    assert_eq!(made["metrics"]["queries"], whole["metrics"]["queries"]);
    assert_eq!(made["createdTimeUtc"], made["lastUpdatedTimeUtc"]);

    assert_eq!(desired(&server, "d1").await, json!({ "rate": 5 }));
    assert_eq!(desired(&server, "d3").await, json!({}));
    assert_eq!(fares(&server, "d1").await, json!({ "cfg-a": { "status": "Applied" } }));
    assert_eq!(fares(&server, "d3").await, Value::Null);
    let read = server.get("/configurations/cfg-a").await;
    assert_eq!(read.header("etag"), created.header("etag"));
    let read = read.ok();
    assert_eq!(read["systemMetrics"]["results"], json!({ "targetedCount": 2, "appliedCount": 2 }));
    assert_eq!(read["metrics"]["results"], json!({ "five": 2 }));
    for (name, query) in read["systemMetrics"]["queries"].as_object().expect("queries") {
        let rows = server.query(query.as_str().expect("a text")).await.ok();
        assert_eq!(rows.as_array().map(Vec::len), Some(2), "{name}: clients count the rows of {query}");
    }

    server.send("patch", "/twins/d3", &json!({ "tags": { "site": "a" } })).await.ok();
    assert_eq!(server.get("/twins/d3").await.ok()["properties"]["desired"]["rate"], 5, "in the same commit");

    let again = put(&server, "cfg-a", &whole).await.error(409, "ConfigurationAlreadyExists");
    assert!(again.contains("cfg-a"), "{again}");
    let changed =
        json!({ "content": device_content(5), "targetCondition": "tags.site = 'b'", "priority": 3 });
    let etag = made["etag"].as_str().expect("a tag");
    server
        .send_if("put", "/configurations/cfg-a", "\"bm8=\"", &changed)
        .await
        .error(412, "PreconditionFailed");
    server.send_if("put", "/configurations/other", "*", &changed).await.error(404, "ConfigurationNotFound");
    let bare = server.send_if("put", "/configurations/cfg-a", etag, &changed).await.ok();
    assert_eq!((&bare["priority"], &bare["labels"]), (&json!(3), &json!({})));
    assert_ne!(bare["etag"], made["etag"]);
    assert_eq!(desired(&server, "d1").await, json!({}), "who left the target loses the values");
    assert_eq!(fares(&server, "d1").await, Value::Null);

    let old = server.request("delete", "/configurations/cfg-a").header("If-Match", format!("\"{etag}\""));
    Reply::of(old).await.error(412, "PreconditionFailed");
    server.delete("/configurations/cfg-a").await.is(204);
    server.get("/configurations/cfg-a").await.error(404, "ConfigurationNotFound");
    server.delete("/configurations/cfg-a").await.error(404, "ConfigurationNotFound");
}

#[tokio::test]
async fn the_list_has_all_or_as_many_as_asked_for() {
    let server = Server::start().await;
    assert_eq!(server.get("/configurations").await.ok(), json!([]));
    for n in [2, 0, 1] {
        put(&server, &format!("c{n}"), &body("", n, device_content(n))).await.ok();
    }
    for (query, expected) in [
        ("", vec!["c0", "c1", "c2"]),
        ("?top=", vec!["c0", "c1", "c2"]),
        ("?top=2", vec!["c0", "c1"]),
        ("?top=1000000", vec!["c0", "c1", "c2"]),
    ] {
        for slash in ["", "/"] {
            let list = server.get(&format!("/configurations{slash}{query}")).await.ok();
            let ids: Vec<&str> =
                list.as_array().expect("a list").iter().filter_map(|c| c["id"].as_str()).collect();
            assert_eq!(ids, expected, "{slash}{query}");
        }
    }
    for bad in ["0", "-1", "many", "1.5"] {
        server.get(&format!("/configurations?top={bad}")).await.error(400, "ArgumentInvalid");
    }
}

#[tokio::test]
async fn higher_priorities_win_and_among_equals_the_newer() {
    let server = Server::start().await;
    server.create("d").await;
    for (id, priority, rate) in [("z-old", 5, 1), ("a-new", 5, 2), ("low", 4, 3)] {
        put(&server, id, &body("*", priority, device_content(rate))).await.ok();
        // The hub's clock stands still in tests, and the newer is who is younger.
        server.test.advance(std::time::Duration::from_secs(1));
    }
    assert_eq!(desired(&server, "d").await, json!({ "rate": 2 }));
    let status = |status: &str| json!({ "status": status });
    let expected =
        json!({ "z-old": status("Targeted"), "a-new": status("Applied"), "low": status("Targeted") });
    assert_eq!(fares(&server, "d").await, expected);
    server.delete("/configurations/a-new").await.is(204);
    assert_eq!(desired(&server, "d").await, json!({ "rate": 1 }));
    server.send_if("put", "/configurations/low", "*", &body("*", 6, device_content(3))).await.ok();
    assert_eq!(desired(&server, "d").await, json!({ "rate": 3 }));
}

#[tokio::test]
async fn bad_input_is_named_and_changes_nothing() {
    let server = Server::start().await;
    put(&server, "c", &body("", 1, device_content(1))).await.ok();
    let before = server.snapshot().await;
    let (condition, content, metric) = (
        "InvalidConfigurationTargetCondition",
        "InvalidConfigurationContent",
        "InvalidConfigurationCustomMetricsQuery",
    );
    let long = "x".repeat(CONFIGURATION_CONTENT_BYTES_MAX);
    let with = |member: &str, value: Value| {
        let mut body = body("*", 1, device_content(1));
        body[member] = value;
        body
    };
    let query = |name: &str, text: &str| json!({ "queries": { name: text } });
    let six: Value = (0..6)
        .map(|n| (format!("m{n}"), json!("SELECT * FROM devices")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    for (bad, name, words) in [
        (with("targetCondition", json!("tags.site =")), condition, "targetCondition"),
        (with("targetCondition", json!("properties.desired.a = 1")), condition, "properties.desired.a"),
        (with("targetCondition", json!("FROM devices.modules WHERE moduleId = 'm'")), condition, "devices"),
        (with("content", json!({})), content, "exactly one"),
        (with("content", Value::Null), content, "content is missing"),
        (with("content", json!({ "deviceContent": { "tags.a": 1 } })), content, "tags.a"),
        (with("content", json!({ "deviceContent": { "properties.desired.a.": 1 } })), content, "a."),
        (
            with(
                "content",
                json!({ "deviceContent": { "properties.desired.a": 1, "properties.desired.a.b": 2 } }),
            ),
            content,
            "overlap",
        ),
        (with("content", json!({ "deviceContent": { "properties.desired.a": long } })), content, "bytes"),
        (with("metrics", query("m", "SELECT FROM")), metric, "metrics.queries.m"),
        (with("metrics", query("", "SELECT * FROM devices")), "ArgumentInvalid", "name"),
        (with("metrics", json!({ "queries": six })), "ArgumentInvalid", "6 queries"),
        (with("priority", json!(-1)), "ArgumentInvalid", "priority is -1"),
        (with("priority", json!(1.5)), "ArgumentInvalid", "priority is 1.5"),
        (with("priority", json!(i64::from(i32::MAX) + 1)), "ArgumentInvalid", "priority"),
        (with("labels", json!({ "a": 1 })), "ArgumentInvalid", "labels.a"),
        (with("id", json!("other")), "ArgumentInvalid", "other"),
    ] {
        let said = put(&server, "new", &bad).await.error(400, name);
        assert!(said.contains(words), "{words}: {said}");
    }
    let good = body("", 1, device_content(1));
    for id in ["Upper", "a%20b", "a%2Fb", "a%5B", "%C3%BC", &"x".repeat(129)] {
        put(&server, id, &good).await.error(400, "ArgumentInvalid");
        server.get(&format!("/configurations/{id}")).await.error(400, "ArgumentInvalid");
    }
    for text in ["[]", "{", "1", "\"c\""] {
        server.send_raw("put", "/configurations/new", text).await.error(400, "IotHubFormatError");
    }
    server.send_raw("put", "/configurations/new", "").await.error(400, "ArgumentNull");
    let frozen = server.send_if("put", "/configurations/c", "*", &body("", 1, device_content(2))).await;
    frozen.error(400, "CannotModifyImmutableConfigurationContent");
    assert_eq!(server.snapshot().await, before);
}

#[tokio::test]
async fn a_test_of_queries_answers_with_what_is_wrong() {
    let server = Server::start().await;
    let test = |body: Value| {
        let server = &server;
        async move { server.send("post", "/configurations/testQueries", &body).await.ok() }
    };
    let fine = json!({ "targetConditionError": null, "customMetricQueryErrors": {} });
    for good in [
        json!({}),
        json!({ "targetCondition": null, "customMetricQueries": null }),
        json!({ "targetCondition": "tags.a = 1", "customMetricQueries": { "m": "SELECT * FROM devices" } }),
        json!({ "targetCondition": "FROM devices.modules WHERE moduleId = 'm'" }),
    ] {
        assert_eq!(test(good).await, fine);
    }
    let found = test(json!({
        "targetCondition": "tags.a =", "customMetricQueries": { "good": "SELECT * FROM devices", "bad": "SELECT" },
    }))
    .await;
    assert!(found["targetConditionError"].is_string(), "{found}");
    let errors = found["customMetricQueryErrors"].as_object().expect("errors");
    assert_eq!(errors.keys().collect::<Vec<_>>(), ["bad"]);
    let reply = server.send("post", "/configurations/testQueries", &json!({ "targetCondition": 1 })).await;
    reply.error(400, "IotHubFormatError");
    server.get("/configurations/testQueries").await.error(405, "GenericMethodNotAllowed");
}

#[tokio::test]
async fn content_is_applied_to_an_edge_device_by_hand() {
    let server = Server::start().await;
    edge_device(&server, "edge").await;
    server.create("plain").await;
    let apply = |device: &str, body: Value| {
        let (server, path) = (&server, format!("/devices/{device}/applyConfigurationContent"));
        async move { server.send("post", &path, &body).await }
    };
    let content = json!({ "modulesContent": {
        "$edgeAgent": { "properties.desired": {
            "modules": { "m1": { "version": "1" }, "m2": { "version": "1" } },
            "systemModules": { "edgeAgent": {}, "edgeHub": {} },
        } },
        "$edgeHub": { "properties.desired": { "routes": {} } },
        "m1": { "properties.desired": { "speed": 1 } },
        "extra": { "properties.desired.x": 1 },
    } });
    let before = server.snapshot().await;
    for (device, body, status, name) in [
        ("plain", content.clone(), 400, "InvalidConfigurationContent"),
        ("edge", device_content(1), 400, "InvalidConfigurationContent"),
        ("edge", json!({}), 400, "InvalidConfigurationContent"),
        ("edge", json!({ "modulesContent": { "a b": {} } }), 400, "InvalidConfigurationContent"),
        (
            "edge",
            json!({ "modulesContent": { "$edgeAgent": { "properties.desired.modules": { "a/b": {} } } } }),
            400,
            "InvalidConfigurationContent",
        ),
        ("none", content.clone(), 404, "DeviceNotFound"),
        ("a%20b", content.clone(), 400, "ArgumentInvalid"),
    ] {
        apply(device, body).await.error(status, name);
    }
    assert_eq!(server.snapshot().await, before);

    apply("edge", content.clone()).await.is(204);
    assert_eq!(module_names(&server, "edge").await, ["$edgeAgent", "$edgeHub", "extra", "m1", "m2"]);
    assert_eq!(server.get("/devices/edge/modules/m2").await.ok()["managedBy"], "iotEdge");
    assert_eq!(desired(&server, "edge/modules/m1").await, json!({ "speed": 1 }));
    assert_eq!(desired(&server, "edge/modules/extra").await, json!({ "x": 1 }));
    server
        .send("patch", "/twins/edge/modules/extra", &json!({ "properties": { "desired": { "y": 2 } } }))
        .await
        .ok();
    apply(
        "edge",
        json!({ "modulesContent": {
        "m1": { "properties.desired": { "size": 2 } }, "extra": { "properties.desired.x": null },
    } }),
    )
    .await
    .is(204);
    assert_eq!(desired(&server, "edge/modules/m1").await, json!({ "size": 2 }), "the section as a whole");
    assert_eq!(desired(&server, "edge/modules/extra").await, json!({ "y": 2 }), "one property of it");
    assert_eq!(fares(&server, "edge/modules/$edgeAgent").await, Value::Null, "no configuration did this");

    let modules: serde_json::Map<_, _> =
        (0..MODULES_PER_DEVICE_MAX).map(|n| (format!("n{n}"), json!({}))).collect();
    let before = server.snapshot().await;
    let too_many =
        json!({ "modulesContent": { "$edgeAgent": { "properties.desired": { "modules": modules } } } });
    apply("edge", too_many).await.error(413, "TooManyModulesOnDevice");
    assert_eq!(server.snapshot().await, before, "all or nothing");
}

#[tokio::test]
async fn a_deployment_brings_its_modules() {
    let server = Server::start().await;
    edge_device(&server, "old").await;
    let base = json!({ "modulesContent": {
        "$edgeAgent": { "properties.desired": {
            "modules": { "m1": {}, "a/b": {} }, "systemModules": { "edgeAgent": {}, "edgeHub": {} },
        } },
        "m1": { "properties.desired": { "speed": 1 } },
    } });
    put(&server, "base", &body("*", 1, base)).await.ok();
    assert_eq!(module_names(&server, "old").await, ["$edgeAgent", "$edgeHub", "m1"]);
    edge_device(&server, "new").await;
    assert_eq!(module_names(&server, "new").await, ["$edgeAgent", "$edgeHub", "m1"]);
    let layer = json!({ "modulesContent": {
        "$edgeAgent": { "properties.desired.modules.m2": { "version": "1" } },
        "m2": { "properties.desired.size": 3 },
    } });
    put(&server, "layer", &body("tags.big = true", 2, layer)).await.ok();
    assert_eq!(module_names(&server, "new").await, ["$edgeAgent", "$edgeHub", "m1"]);
    server.send("patch", "/twins/new", &json!({ "tags": { "big": true } })).await.ok();
    assert_eq!(module_names(&server, "new").await, ["$edgeAgent", "$edgeHub", "m1", "m2"]);
    for device in ["old", "new"] {
        assert_eq!(desired(&server, &format!("{device}/modules/m1")).await, json!({ "speed": 1 }));
    }
    assert_eq!(desired(&server, "new/modules/m2").await, json!({ "size": 3 }));
    let metrics = server.get("/configurations/base").await.ok()["systemMetrics"]["results"].clone();
    let expected = json!({
        "targetedCount": 2, "appliedCount": 2, "reportedSuccessfulCount": 0, "reportedFailedCount": 0,
    });
    assert_eq!(metrics, expected);
    assert_eq!(server.test.hub.prove_configurations().await.expect("proven"), 0);
    server.delete("/devices/new").await.is(204);
    server.get("/devices/new/modules").await.error(404, "DeviceNotFound");
}

#[tokio::test]
async fn rollouts_are_checked_shown_and_decided_about() {
    let server = Server::start().await;
    for n in 0..5 {
        server.create(&format!("d{n}")).await;
    }
    let with = |rollout: Value| {
        let mut body = body("*", 5, device_content(2));
        body["rollout"] = rollout;
        body
    };
    for (rollout, part) in [
        (json!([]), "rollout"),
        (json!({"waves": [{"percent": 120}]}), "rollout.waves"),
        (json!({"limits": {"inFlight": 1}}), "for jobs only"),
        (json!({"waves": [{"devices": 6}, {"rest": true}]}), "but there are 5"),
    ] {
        let words = put(&server, "fast", &with(rollout)).await.error(400, "ArgumentInvalid");
        assert!(words.contains(part), "{words}");
    }
    let asked = json!({"waves": [{"devices": 2}, {"rest": true}], "advance": {"approval": "anyone"}});
    let preview = json!({"configurations": [{"id": "fast", "content": device_content(2), "targetCondition": "*", "rollout": asked}]});
    let preview = server.send("post", "/api/configurations/preview", &preview).await.ok();
    assert_eq!(preview["configurations"]["fast"]["waves"], json!([2, 3]));
    put(&server, "fast", &with(asked)).await.ok();
    let path = "/api/configurations/fast/rollout";
    let decide =
        async |action: &str| server.send("post", path, &json!({ "action": action, "reason": "r" })).await;
    decide("hurry").await.error(400, "ArgumentInvalid");
    decide("resume").await.error(409, "GenericConflict");
    server
        .send("post", "/api/configurations/nope/rollout", &json!({"action": "pause"}))
        .await
        .error(404, "ConfigurationNotFound");
    let paused = decide("pause").await.ok();
    assert_eq!(
        (&paused["rolloutState"]["phase"], &paused["rolloutState"]["reason"]),
        (&json!("paused"), &json!("r"))
    );
    assert!(paused["rollout"]["seed"].is_u64(), "{paused}");
    let read = server.get("/configurations/fast").await.ok();
    let targets: u64 = read["rolloutState"]["waves"]
        .as_array()
        .expect("waves")
        .iter()
        .filter_map(|it| it["targets"].as_u64())
        .sum();
    assert_eq!(targets, 5);
    decide("rollBack").await.ok();
    assert_eq!(desired(&server, "d0").await, json!({}));
}

#[tokio::test]
async fn gates_are_checked_shown_and_overridden() {
    let server = Server::start().await;
    for n in 0..2 {
        server.create(&format!("d{n}")).await;
    }
    let gates = json!({"power": {"minimumBatteryPercent": 50.0}});
    let with = |gates: &Value| {
        let mut body = body("*", 5, device_content(2));
        body["gates"] = gates.clone();
        body
    };
    for (gates, part) in [
        (json!("power"), "gates: is"),
        (json!({"power": {"minimumBatteryPercent": "full"}}), "gates.power.minimumBatteryPercent"),
        (json!({"windows": {}}), "gates.windows"),
        (json!({"override": {}}), "gates.override.reason"),
    ] {
        let words = put(&server, "fast", &with(&gates)).await.error(400, "ArgumentInvalid");
        assert!(words.contains(part), "{words}");
    }
    let mut asked = with(&gates);
    asked["id"] = "fast".into();
    let preview = json!({ "configurations": [asked] });
    let preview = server.send("post", "/api/configurations/preview", &preview).await.ok();
    let planned = &preview["configurations"]["fast"];
    assert_eq!(planned["gatesWaiting"]["count"], 2);
    assert_eq!(planned["gatesWaiting"]["reasons"]["power.missing"]["devices"], 2);
    put(&server, "fast", &with(&gates)).await.ok();
    server.settled().await;
    let read = server.get("/configurations/fast").await.ok();
    assert_eq!((&read["gates"], &read["gatesWaiting"]["count"]), (&gates, &json!(2)));
    assert_eq!(read["systemMetrics"]["results"], json!({"targetedCount": 2, "appliedCount": 0}));
    assert_eq!(fares(&server, "d0").await, json!({"fast": {"status": "Targeted"}}));
    let explained = server.get("/api/devices/d0/explain").await.ok();
    let fast = &explained["configurations"][0];
    assert_eq!((&fast["targets"], &fast["waitsFor"]["open"]), (&json!(true), &json!(false)));
    assert_eq!(fast["waitsFor"]["reasons"][0]["code"], "missing");

    let path = "/api/configurations/fast/rollout";
    let overriding = async |reason: Value| {
        server.send("post", path, &json!({"action": "overrideGates", "reason": reason})).await
    };
    overriding(Value::Null).await.error(400, "ArgumentInvalid");
    let told = overriding(json!("a leak")).await.ok();
    assert_eq!(told["gatesOverride"]["reason"], "a leak");
    overriding(json!("again")).await.error(409, "GenericConflict");
    assert_eq!(fares(&server, "d0").await, json!({"fast": {"status": "Applied"}}));
    let read = server.get("/configurations/fast").await.ok();
    assert_eq!((&read["gatesOverride"], &read["gatesWaiting"]["count"]), (&told["gatesOverride"], &json!(0)));
}
