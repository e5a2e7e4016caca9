//! Explanations over HTTPS: the document for devices and modules, with configurations and without.

use std::sync::Arc;

use hub_domain::configuration::ConfigurationSpec;
use hub_domain::id::ConfigurationId;
use serde_json::{Value, json};

use crate::support::Server;

async fn configure(server: &Server, id: &str, condition: &str, priority: u32, content: Value) {
    let body = json!({ "content": content, "targetCondition": condition, "priority": priority });
    let id = ConfigurationId::parse(id).expect("an id");
    let spec = ConfigurationSpec::parse(id, &body).expect("a configuration");
    let hub = Arc::clone(&server.test.hub);
    hub.configuration_create(&server.test.owner(), spec).await.expect("created");
}

/// The explanation, once the configurations have reached the twin.
async fn settled(server: &Server, path: &str) -> Value {
    for _ in 0..1000 {
        let said = server.get(path).await.ok();
        if said["settled"] == true {
            return said;
        }
        tokio::task::yield_now().await;
    }
    panic!("{path} does not settle");
}

#[tokio::test]
async fn a_device_without_configurations() {
    let server = Server::start().await;
    server.create("d").await;
    server
        .send("patch", "/twins/d", &json!({"properties": {"desired": {"a": {"b": 1}, "c": {}}}}))
        .await
        .is(200);
    let twin = server.get("/twins/d").await.ok();
    let said = server.get("/api/devices/d/explain").await.ok();
    let metadata = &twin["properties"]["desired"]["$metadata"];
    let property = |path: &str, value: Value, metadata: &Value| {
        json!({
            "path": path, "value": value, "setBy": {"kind": "policy", "name": "iothubowner"}, "overridden": [],
            "setAt": metadata["$lastUpdated"], "version": metadata["$lastUpdatedVersion"],
        })
    };
    let expected = json!({
        "deviceId": "d", "desiredVersion": 2, "settled": true, "configurations": [], "leftOut": 0,
        "properties": [
            property("properties.desired.a.b", json!(1), &metadata["a"]["b"]),
            property("properties.desired.c", json!({}), &metadata["c"]),
        ],
    });
    assert_eq!(said, expected);
    assert!(metadata["c"]["$lastUpdatedVersion"] == 2, "{metadata}");
    server.get("/api/devices/e/explain").await.error(404, "DeviceNotFound");
    server.get("/api/devices/d/modules/m/explain").await.error(404, "ModuleNotFound");
    server.get("/api/devices/bad id/explain").await.error(400, "ArgumentInvalid");
}

#[tokio::test]
async fn winners_losers_and_terms() {
    let server = Server::start().await;
    server.create("d").await;
    server.send("put", "/devices/d/modules/m", &json!({"deviceId": "d", "moduleId": "m"})).await.is(201);
    server.send("patch", "/twins/d", &json!({"tags": {"site": "a"}})).await.is(200);
    let rate = |rate: u32| json!({"deviceContent": {"properties.desired.rate": rate}});
    configure(&server, "strong", "tags.site = 'a'", 9, rate(5)).await;
    configure(&server, "weak", "*", 1, rate(7)).await;
    configure(&server, "away", "tags.site = 'b' OR NOT IS_DEFINED(tags.site)", 1, rate(9)).await;
    let of_modules = json!({"moduleContent": {"properties.desired.x": 1}});
    configure(&server, "module", "FROM devices.modules WHERE statusReason = null", 1, of_modules).await;

    let said = settled(&server, "/api/devices/d/explain").await;
    let [rate] = &said["properties"].as_array().expect("a list")[..] else { panic!("{said}") };
    assert_eq!((&rate["path"], &rate["value"]), (&json!("properties.desired.rate"), &json!(5)));
    assert_eq!(rate["setBy"], json!({"kind": "configuration", "name": "strong"}));
    let lost = json!([{
        "configuration": "weak", "path": "properties.desired.rate", "value": 7,
        "reason": "configuration 'strong' sets rate; it has priority 9 and this one 1",
    }]);
    assert_eq!(rate["overridden"], lost);
    let [strong, weak, away] = &said["configurations"].as_array().expect("a list")[..] else {
        panic!("{said}")
    };
    let expected = json!({
        "id": "strong", "priority": 9, "content": "deviceContent", "targets": true, "status": "Applied",
        "reason": "1 of 1 settings in force",
        "condition": {
            "text": "tags.site = 'a'", "result": true, "terms": [], "reads": [{"path": "tags.site", "value": "a"}],
        },
    });
    assert_eq!(*strong, expected);
    assert_eq!((&weak["id"], &weak["status"]), (&json!("weak"), &json!("Targeted")));
    assert_eq!((&away["targets"], &away["condition"]["result"]), (&json!(false), &json!(false)));
    assert_eq!(away["condition"]["terms"][1]["terms"][0]["text"], "IS_DEFINED(tags.site)");

    let said = server.get("/api/devices/d/modules/m/explain").await.ok();
    let [module] = &said["configurations"].as_array().expect("a list")[..] else { panic!("{said}") };
    assert_eq!((&said["moduleId"], &module["id"]), (&json!("m"), &json!("module")));
    assert_eq!(module["condition"]["result"], Value::Null, "undefined");
    assert_eq!(module["condition"]["reads"], json!([{"path": "statusReason"}]));
}
