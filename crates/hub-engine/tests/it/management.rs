//! Jobs of device management: a device is done when it has reported so, and an old report is not taken for a new one.

use std::time::Duration;

use hub_domain::job::{JobAction, JobCounts, Management, NewJob};
use hub_domain::method::MethodResult;
use hub_domain::time::Timestamp;
use hub_testkit::{START_SECONDS, TestHub};
use serde_json::{Value, json};

use crate::jobs::{attached, counts, ended, name, rows, until};
use crate::{id, patch};

fn managing(job: &str, kind: &str, parameters: Value) -> NewJob {
    let management = Management::parse(kind, &parameters).expect("a type").expect("valid parameters");
    NewJob {
        id: name(job),
        action: JobAction::Manage { management, wait_for_devices: true },
        condition: "*".into(),
        listed: None,
        start: None,
        execution_max: Some(Duration::from_secs(600)),
        device_timeout: None,
        rollout: None,
        gates: None,
        roll_back: None,
    }
}

/// A device that answers every call so, until it is dropped.
async fn answering(test: &TestHub, device: &str, status: i32, payload: &'static str) -> impl Drop + use<> {
    let (attachment, mut queue) = attached(test, device).await;
    let hub = test.hub.clone();
    let task = tokio::spawn(async move {
        while let Some(downlink) = queue.next().await {
            if let hub_domain::link::Downlink::Call { call, .. } = downlink {
                hub.method_complete(&attachment, call, MethodResult { status, payload: payload.into() });
            }
        }
    });
    Ending(task)
}

struct Ending(tokio::task::JoinHandle<()>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) async fn report(test: &TestHub, device: &str, reported: Value) {
    let token = test.device_token(&id(device), Timestamp::from_seconds(START_SECONDS + 864_000));
    let who = test.hub.authenticate_device(&id(device), hub_engine::Credential::Token(&token));
    let who = who.expect("its own token");
    test.hub.twin_patch_reported(&who, &id(device), &patch(reported), None).await.expect("reported");
}

async fn create(test: &TestHub, job: NewJob) {
    test.hub.job_create(&test.owner(), job).await.expect("created");
}

async fn taken(test: &TestHub, job: &str, count: u64) {
    let query = format!("SELECT COUNT() AS n FROM devices.jobs WHERE jobId = '{job}' AND status = 'running'");
    for _ in 0..10_000 {
        let taken = rows(test, &query).await;
        if taken.first().is_some_and(|row| row["n"] == json!(count)) {
            let open = rows(
                test,
                &format!(
                    "SELECT COUNT() AS n FROM devices.jobs WHERE jobId = '{job}' AND status = 'pending'"
                ),
            )
            .await;
            if open.is_empty() || open[0]["n"] == json!(0) {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{count} devices did not take {job}: {:?}", rows(test, "SELECT * FROM devices.jobs").await);
}

async fn record(test: &TestHub, job: &str, device: &str) -> Value {
    let query = format!("SELECT * FROM devices.jobs WHERE jobId = '{job}' AND deviceId = '{device}'");
    rows(test, &query).await.pop().unwrap_or_else(|| panic!("no record of {device}"))
}

#[tokio::test(start_paused = true)]
async fn a_reboot_is_done_when_the_device_says_so_anew() {
    let test = TestHub::start().await;
    for device in ["d0", "d1", "d2", "d3"] {
        test.register(device).await;
    }
    let old = json!({"reboot": {"state": "done", "bootIdBefore": "a", "bootIdAfter": "b", "updatedAt": 5}});
    report(&test, "d0", old.clone()).await;
    let _devices = [
        answering(&test, "d0", 202, r#"{"accepted":true,"bootId":"b"}"#).await,
        answering(&test, "d1", 202, r#"{"accepted":true,"bootId":"x"}"#).await,
        answering(&test, "d2", 409, r#"{"error":{"code":"busy","message":"an update is under way"}}"#).await,
    ];
    create(&test, managing("r", "rebootDevice", Value::Null)).await;
    until(&test, "r", |job| job.state.counts == counts(1, 2, 0, 1, 0)).await;
    // An unrelated report, and the old one again: not done.
    report(&test, "d0", json!({"temperature": 4})).await;
    report(&test, "d0", old).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(record(&test, "r", "d0").await["status"], "running");
    report(&test, "d0", json!({"reboot": {"state": "rebooting", "updatedAt": 9}})).await;
    assert_eq!(record(&test, "r", "d0").await["progress"]["state"], "rebooting");
    report(&test, "d0", json!({"reboot": {"state": "done", "bootIdBefore": "b", "bootIdAfter": "c"}})).await;
    let error = json!({"code": "notRebooted", "message": "same boot"});
    report(&test, "d1", json!({"reboot": {"state": "failed", "error": error}})).await;
    until(&test, "r", |job| job.state.counts == counts(1, 0, 1, 2, 0)).await;
    let done = record(&test, "r", "d0").await;
    assert_eq!(done["outcome"]["reported"]["bootIdAfter"], "c");
    assert_eq!(done["outcome"]["deviceMethodResponse"]["status"], 202);
    assert_eq!(done["jobType"], "rebootDevice");
    let failed = record(&test, "r", "d1").await;
    assert_eq!(failed["error"], json!({"code": "notRebooted", "description": "failed: same boot"}));
    let rejected = record(&test, "r", "d2").await;
    assert_eq!(
        rejected["error"],
        json!({"code": "DeviceRejected", "description": "the device answered 409: an update is under way"})
    );
    // The one that never came, at the job's end.
    test.advance(Duration::from_secs(600));
    assert_eq!(ended(&test, "r").await.state.counts, counts(0, 0, 1, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_waiting_for_reports() {
    let test = TestHub::start().await;
    for device in ["d0", "d1"] {
        test.register(device).await;
    }
    let devices = [answering(&test, "d0", 202, "{}").await, answering(&test, "d1", 202, "{}").await];
    create(&test, managing("reset", "factoryResetDevice", json!({}))).await;
    taken(&test, "reset", 2).await;
    // Time stands still until nobody has anything to do: both answers are written by then.
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(devices);
    // One report comes while no job runs, the other afterwards.
    let again = test.killed().await;
    report(&again, "d0", json!({"factoryReset": {"state": "done"}})).await;
    until(&again, "reset", |job| job.state.counts == counts(0, 1, 1, 0, 0)).await;
    report(&again, "d1", json!({"factoryReset": {"state": "done"}})).await;
    assert_eq!(ended(&again, "reset").await.state.counts, counts(0, 0, 2, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn silence_and_deletion_are_failures_with_a_reason() {
    let test = TestHub::start().await;
    for device in ["d0", "d1"] {
        test.register(device).await;
    }
    let _devices = [answering(&test, "d0", 200, "{}").await, answering(&test, "d1", 200, "{}").await];
    let job = managing("r", "rebootDevice", Value::Null);
    create(&test, NewJob { device_timeout: Some(Duration::from_secs(60)), ..job }).await;
    taken(&test, "r", 2).await;
    test.hub
        .identity_delete(&test.owner(), &id("d1"), &hub_domain::version::Precondition::None)
        .await
        .expect("deleted");
    until(&test, "r", |job| job.state.counts == counts(0, 1, 0, 1, 0)).await;
    assert_eq!(record(&test, "r", "d1").await["error"]["code"], "404001");
    report(&test, "d0", json!({"reboot": {"state": "rebooting"}})).await;
    test.advance(Duration::from_secs(61));
    assert_eq!(ended(&test, "r").await.state.counts, counts(0, 0, 0, 2, 0));
    let error = record(&test, "r", "d0").await["error"].clone();
    assert_eq!(error["code"], "NotReported");
    assert!(error["description"].as_str().is_some_and(|text| text.contains("\"rebooting\"")), "{error}");
}

#[tokio::test(start_paused = true)]
async fn firmware_counts_only_when_the_wanted_version_runs() {
    let test = TestHub::start().await;
    let image = json!({"version": "2.0", "url": "https://hub/image", "sha256": "0".repeat(64), "size": 10});
    let mut devices = Vec::new();
    for device in ["d0", "d1", "d2"] {
        test.register(device).await;
        devices.push(answering(&test, device, 202, "{}").await);
    }
    create(&test, managing("update", "firmwareUpdate", image)).await;
    taken(&test, "update", 3).await;
    let firmware = |version: &str, state: &str, error: Value| json!({"firmware": {"version": version, "update": {"version": "2.0", "state": state, "error": error}}});
    report(&test, "d0", firmware("1.0", "downloading", Value::Null)).await;
    report(&test, "d0", firmware("2.0", "succeeded", Value::Null)).await;
    report(&test, "d1", firmware("1.9", "succeeded", Value::Null)).await;
    let error = json!({"code": "selfTestFailed", "message": "no sensor", "step": "confirming"});
    report(&test, "d2", firmware("1.0", "reverted", error)).await;
    assert_eq!(ended(&test, "update").await.state.counts, counts(0, 0, 1, 2, 0));
    assert_eq!(record(&test, "update", "d0").await["outcome"]["reported"]["version"], "2.0");
    assert_eq!(record(&test, "update", "d1").await["error"]["code"], "WrongVersion");
    let error = json!({"code": "selfTestFailed", "description": "reverted while confirming: no sensor"});
    assert_eq!(record(&test, "update", "d2").await["error"], error);
}

#[tokio::test(start_paused = true)]
async fn configurations_and_properties_are_done_when_they_are_confirmed() {
    let test = TestHub::start().await;
    for device in ["d0", "d1"] {
        test.register(device).await;
    }
    let content = json!({"configuration": {"interval": 60}});
    create(&test, managing("configure", "updateDeviceConfiguration", content)).await;
    taken(&test, "configure", 2).await;
    report(&test, "d0", json!({"configuration": {"state": "applied", "version": 1}})).await;
    let applied = json!({"configuration": {"state": "applied", "version": 2, "values": {"interval": 60}}});
    report(&test, "d0", applied).await;
    let error = json!({"code": "badConfiguration", "message": "interval is too long"});
    report(&test, "d1", json!({"configuration": {"state": "failed", "version": 2, "error": error}})).await;
    assert_eq!(ended(&test, "configure").await.state.counts, counts(0, 0, 1, 1, 0));
    let error = json!({"code": "badConfiguration", "description": "failed: interval is too long"});
    assert_eq!(record(&test, "configure", "d1").await["error"], error);

    create(
        &test,
        managing("write", "writeDeviceProperties", json!({"properties": {"light": {"on": true}, "rate": 5}})),
    )
    .await;
    taken(&test, "write", 2).await;
    report(&test, "d0", json!({"light": {"on": true}})).await;
    let progress = record(&test, "write", "d0").await["progress"].clone();
    assert_eq!(progress, json!({"notConfirmed": ["rate"]}));
    // An acknowledgement of an older version does not count.
    report(&test, "d0", json!({"rate": {"value": 5, "ac": 200, "av": 2}})).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(record(&test, "write", "d0").await["status"], "running");
    report(&test, "d0", json!({"rate": {"value": 5, "ac": 200, "av": 3}})).await;
    report(&test, "d1", json!({"rate": {"value": 1, "ac": 400, "av": 3, "ad": "out of range"}})).await;
    assert_eq!(ended(&test, "write").await.state.counts, counts(0, 0, 1, 1, 0));
    let error = json!({"code": "PropertyRefused", "description": "rate was refused with 400: out of range"});
    assert_eq!(record(&test, "write", "d1").await["error"], error);

    let _devices = [answering(&test, "d0", 200, "{}").await, answering(&test, "d1", 404, "{}").await];
    let paths = json!({"properties": ["rate.value", "light.on"]});
    create(&test, managing("read", "readDeviceProperties", paths)).await;
    until(&test, "read", |job| job.state.counts == counts(0, 1, 1, 0, 0)).await;
    assert_eq!(record(&test, "read", "d1").await["outcome"]["reported"], json!({"rate.value": 1}));
    report(&test, "d0", json!({"status": {"reportedAt": 1}, "rate": {"value": 6}})).await;
    let job = ended(&test, "read").await;
    assert_eq!(job.state.counts, JobCounts { succeeded: 2, ..JobCounts::default() });
    let read = record(&test, "read", "d0").await["outcome"]["reported"].clone();
    assert_eq!(read, json!({"rate.value": 6, "light.on": true}));
}

#[test]
fn parameters_are_checked() {
    let image = |change: Value| {
        let mut image = json!({"version": "2", "url": "https://a/b", "sha256": "a".repeat(64), "size": 1});
        image.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        image
    };
    for (kind, parameters, part) in [
        ("rebootDevice", json!({"in": 5}), "takes no parameters"),
        ("factoryResetDevice", json!([1]), "takes no parameters"),
        ("firmwareUpdate", json!(null), "expected an object with version"),
        ("firmwareUpdate", image(json!({"version": ""})), "version must be"),
        ("firmwareUpdate", image(json!({"url": "http://a"})), "https://"),
        ("firmwareUpdate", image(json!({"sha256": "x"})), "64 hexadecimal"),
        ("firmwareUpdate", image(json!({"size": 0})), "size must be"),
        ("firmwareUpdate", image(json!({"more": "x".repeat(200_000)})), "131072"),
        ("updateDeviceConfiguration", json!({}), "configuration"),
        ("updateDeviceConfiguration", json!({"configuration": {}}), "nothing to write"),
        ("updateDeviceConfiguration", json!({"configuration": {"a.b": 1}}), "a.b"),
        ("writeDeviceProperties", json!({"properties": 5}), "{\"properties\": {…}}"),
        ("writeDeviceProperties", json!({"properties": {"a": 1}, "b": 1}), "{\"properties\": {…}}"),
        ("readDeviceProperties", json!({"properties": []}), "1 to 100 names"),
        ("readDeviceProperties", json!({"properties": ["a..b"]}), "1 to 100 names"),
        ("readDeviceProperties", json!({"properties": vec!["a"; 101]}), "1 to 100 names"),
    ] {
        let error = Management::parse(kind, &parameters).expect("a type").expect_err(kind).to_string();
        assert!(error.contains(part), "{kind} {parameters}: {error}");
    }
    assert_eq!(Management::parse("backup", &Value::Null), None);
    for (kind, parameters) in [
        ("rebootdevice", Value::Null),
        ("FirmwareUpdate", image(json!({"signature": "x"}))),
        ("updateDeviceConfiguration", json!({"configuration": {"a": {"b": null}}})),
        ("readDeviceProperties", json!({"properties": ["a.b"]})),
        ("writeDeviceProperties", json!({"properties": {"a": 1}})),
    ] {
        let management = Management::parse(kind, &parameters).expect("a type").expect("valid");
        let again = Management::parse(management.kind(), &management.parameters());
        assert_eq!(again.expect("a type"), Ok(management));
    }
}
