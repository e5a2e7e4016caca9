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
