//! Jobs of device management, from the command line to simulated devices on real sockets and back.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Hub, folder, program, soon};

#[tokio::test]
async fn each_type_is_done_when_the_devices_have_reported_so() {
    let folder = folder();
    let hub = Hub::start(&folder.path().join("data")).await;
    let image = folder.path().join("firmware.bin");
    let bytes = hub_sim::make_image("9.9", 10_000);
    std::fs::write(&image, &bytes).expect("written");
    let added = hub.json(&["artifact", "add", image.to_str().expect("text")]).await;
    let digest = added["sha256"].as_str().expect("a digest").to_owned();
    let url = hub.expect(0, &["artifact", "url", &digest, "--expires-in", "600"]).await.out;
    let data = hub.data.to_str().expect("text").to_string();
    let mut simulation = program();
    simulation.args(["simulate", "--devices", "3", "--data", &data]).stdout(Stdio::piped());
    let simulation = simulation.spawn().expect("it starts");

    let create = async |id: &str, kind: &str, parameters: Option<&str>| {
        let mut arguments =
            vec!["job", "create", id, "--all", "--type", kind, "--wait-for-devices", "--watch"];
        arguments.extend(["--max-time", "60"]);
        arguments.extend(parameters.iter().flat_map(|parameters| ["--parameters", parameters]));
        let all = hub.expect(0, &arguments).await;
        assert!(all.out.contains("succeeded") && all.out.contains('3'), "{}", all.out);
    };
    soon("the devices to be registered", async {
        while hub.expect(0, &["device", "list", "--json"]).await.out.lines().count() < 3 {}
    })
    .await;
    create("reboot", "reboot", None).await;
    create("configure", "update-configuration", Some(r#"{"configuration":{"interval":7}}"#)).await;
    create("read", "read-properties", Some(r#"{"properties":["configuration.values.interval"]}"#)).await;
    let firmware = json!({ "version": "9.9", "url": url.trim(), "sha256": digest, "size": bytes.len() });
    create("update", "firmware-update", Some(&firmware.to_string())).await;
    create("reset", "factory-reset", None).await;

    let query = "SELECT jobId, outcome.reported AS reported FROM devices.jobs WHERE deviceId = 'sim-0002'";
    let out = hub.expect(0, &["query", query, "--json"]).await.out;
    let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let reported = |job: &str| {
        let row = rows.iter().find(|row| row["jobId"] == job);
        row.unwrap_or_else(|| panic!("no record of {job} in {out}"))["reported"].clone()
    };
    assert_eq!(reported("reboot")["state"], "done");
    assert_eq!(reported("configure")["values"], json!({"interval": 7}));
    assert_eq!(reported("read"), json!({"configuration.values.interval": 7}));
    assert_eq!(reported("update")["version"], "9.9");
    assert_eq!(reported("reset")["state"], "done");

    let refused = hub.expect(2, &["job", "create", "x", "--all", "--type", "method"]).await;
    assert!(refused.err.contains("--method"), "{}", refused.err);
    let refused = hub
        .expect(1, &["job", "create", "x", "--all", "--type", "firmware-update", "--parameters", "{}"])
        .await;
    assert!(refused.err.contains("version must be"), "{}", refused.err);
    drop(simulation);
}

#[tokio::test]
async fn a_device_that_is_in_use_puts_off_what_it_is_told_and_does_it_later() {
    let folder = folder();
    let hub = Hub::start(&folder.path().join("data")).await;
    let data = hub.data.to_str().expect("text").to_string();
    let mut simulation = program();
    simulation.args(["simulate", "--devices", "40", "--model", "use", "--seed", "5", "--data", &data]);
    let simulation = simulation.stdout(Stdio::piped()).spawn().expect("it starts");
    let count = async |query: &str| {
        let out = hub.expect(0, &["query", query, "--json"]).await.out;
        out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect::<Vec<_>>()
    };
    let reported = "SELECT deviceId FROM devices WHERE IS_BOOL(properties.reported.context.inUse)";
    soon("the devices to say whether they are in use", async { while count(reported).await.len() < 40 {} })
        .await;
    // No gate of the hub looks at it: the devices themselves do.
    let rollout = r#"{"waves":[{"rest":true}],"retry":{"deferred":{"initialInSeconds":1,"maxInSeconds":1}}}"#;
    let job =
        ["job", "create", "busy", "--all", "--type", "reboot", "--wait-for-devices", "--rollout", rollout];
    hub.expect(0, &job).await;
    let deferred =
        "SELECT lastError.description AS why FROM devices.jobs WHERE lastError.code = 'DeviceDeferred'";
    soon("a device to say not now", async {
        loop {
            if let Some(row) = count(deferred).await.first() {
                let why = "the device said not now: somebody uses the device";
                break assert_eq!(row["why"], why);
            }
        }
    })
    .await;
    let all = hub.expect(0, &["job", "watch", "busy"]).await;
    assert!(all.out.contains("40"), "{}", all.out);

    let children = hub.expect(0, &["job", "children", "busy", "--status", "completed", "--json"]).await.out;
    assert_eq!(children.lines().count(), 40, "{children}");
    let shown = hub.expect(0, &["job", "show", "busy", "--device", "sim-0007"]).await.out;
    assert!(shown.contains("rebootDevice") && shown.contains("completed"), "{shown}");
    let shown = hub.expect(0, &["job", "show", "busy"]).await.out;
    assert!(shown.contains("expected end") && shown.contains("forecast error"), "{shown}");
    hub.expect(3, &["job", "show", "busy", "--device", "nobody"]).await;
    drop(simulation);
}
