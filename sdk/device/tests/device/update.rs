//! Firmware updates from the call to the end after the reboot, and every other end they can have.

use std::sync::Arc;
use std::time::Duration;

use fleetyard_device::agent::{Action, End, Step};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::files::{Files, Reply};
use crate::hub::Hub;
use crate::machine::{FakeMachine, run};
use crate::soon;

pub fn sha256(image: &[u8]) -> String {
    Sha256::digest(image).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The call that makes a device fetch this image from these files.
pub fn request(files: &Files, image: &[u8]) -> Value {
    json!({ "version": "2.0", "url": files.url(), "sha256": sha256(image), "size": image.len() })
}

/// The states of an update in the order in which they were reported, each once.
pub fn states(hub: &Hub) -> Vec<String> {
    let patches = hub.patches();
    let states = patches.iter().filter_map(|patch| patch["firmware"]["update"]["state"].as_str());
    let mut states: Vec<_> = states.map(String::from).collect();
    states.dedup();
    states
}

/// Updates to 2.0 as far as the reboot.
async fn until_reboot(hub: &Hub, machine: &Arc<FakeMachine>) {
    let image = vec![7; 100_000];
    let files = Files::start(hub.tls.acceptor.clone(), vec![Reply::new(200, &image)]).await;
    let (_client, agent) = run(hub, machine);
    hub.until("came up", |reported| reported["firmware"]["version"] == "1.0").await;
    assert_eq!(hub.call("firmwareUpdate", &request(&files, &image)).await.0, 202);
    assert_eq!(soon("ended", agent).await.expect("no panic"), Ok(End::Reboot));
    assert_eq!(machine.state().image, image);
    assert_eq!(states(hub), ["downloading", "verifying", "applying", "rebooting"]);
}

#[tokio::test]
async fn a_step_that_the_device_cannot_bear_waits_and_says_so() {
    let (hub, machine) = (Hub::start(&[]).await, FakeMachine::new());
    let image = vec![7; 1000];
    let files = Files::start(hub.tls.acceptor.clone(), vec![Reply::new(200, &image)]).await;
    let (_client, agent) = run(&hub, &machine);
    hub.until("came up", |reported| reported["firmware"]["version"] == "1.0").await;
    let put_off = |step| Some((Action::Update(step), Duration::from_millis(100)));
    machine.state().not_now = put_off(Step::Applying);
    assert_eq!(hub.call("firmwareUpdate", &request(&files, &image)).await.0, 202);
    for (step, state, next) in
        [(Step::Applying, "verifying", put_off(Step::Rebooting)), (Step::Rebooting, "applying", None)]
    {
        let waits = |reported: &Value| reported["firmware"]["update"]["deferred"]["step"] == step.as_str();
        let update = hub.until("waits", waits).await["firmware"]["update"].clone();
        assert_eq!((&update["state"], &update["deferred"]["reason"]), (&json!(state), &json!("in use")));
        assert!(update["deferred"]["until"].is_u64(), "{update}");
        assert_eq!(hub.call("reboot", &Value::Null).await.0, 409);
        machine.state().not_now = next;
    }
    assert_eq!(soon("ended", agent).await.expect("no panic"), Ok(End::Reboot));
    assert_eq!(states(&hub), ["downloading", "verifying", "applying", "rebooting"]);
    assert_eq!(hub.reported()["firmware"]["update"].get("deferred"), None);
}

/// What the device reports after the restart.
async fn afterwards(hub: &Hub, machine: &Arc<FakeMachine>) -> Value {
    let (client, _agent) = run(hub, machine);
    let ended = |reported: &Value| {
        ["succeeded", "failed", "reverted"]
            .iter()
            .any(|state| reported["firmware"]["update"]["state"] == *state)
    };
    let reported = hub.until("ended", ended).await;
    hub.call("reportStatus", &Value::Null).await;
    assert_eq!(machine.pending_now(), None);
    client.close().await;
    reported["firmware"].clone()
}

#[tokio::test]
async fn done_is_who_runs_the_new_version_after_the_reboot() {
    let (hub, machine) = (Hub::start(&[]).await, FakeMachine::new());
    until_reboot(&hub, &machine).await;
    assert!(!machine.state().confirmed);
    machine.restart();
    let firmware = afterwards(&hub, &machine).await;
    assert!(machine.state().confirmed);
    let update = &firmware["update"];
    assert_eq!(
        (&firmware["version"], &update["state"], &update["progress"]),
        (&json!("2.0"), &json!("succeeded"), &json!(100))
    );
    assert!(update["startedAt"].is_u64() && update["updatedAt"].is_u64() && update.get("error").is_none());
    assert_eq!(
        states(&hub),
        ["downloading", "verifying", "applying", "rebooting", "confirming", "succeeded"]
    );
    let last = hub.patches().into_iter().rfind(|patch| patch["firmware"]["update"]["state"] == "succeeded");
    assert_eq!(last.expect("it succeeded")["firmware"]["version"], "2.0", "both come in one patch");
}

#[tokio::test]
async fn other_ends_after_the_reboot() {
    let check = async |next: Option<&str>,
                       restarts: bool,
                       refused: Option<Step>,
                       state: &str,
                       step: &str,
                       code: &str| {
        let (hub, machine) = (Hub::start(&[]).await, FakeMachine::new());
        until_reboot(&hub, &machine).await;
        machine.state().next = next.map(String::from);
        machine.state().refused = refused;
        if restarts {
            machine.restart();
        }
        let firmware = afterwards(&hub, &machine).await;
        let update = &firmware["update"];
        assert_eq!(
            (&update["state"], &update["error"]["step"], &update["error"]["code"]),
            (&json!(state), &json!(step), &json!(code))
        );
        assert_eq!(firmware["version"], machine.state().version.as_str());
        assert!(!machine.state().confirmed);
    };
    check(None, true, None, "reverted", "rebooting", "wrongVersion").await;
    check(Some("3.0"), true, None, "failed", "rebooting", "wrongVersion").await;
    check(None, false, None, "failed", "rebooting", "notRebooted").await;
}

#[tokio::test]
async fn a_version_that_cannot_be_kept_is_left_at_once() {
    let (hub, machine) = (Hub::start(&[]).await, FakeMachine::new());
    until_reboot(&hub, &machine).await;
    machine.state().refused = Some(Step::Confirming);
    machine.restart();
    let (_client, agent) = run(&hub, &machine);
    assert_eq!(soon("left", agent).await.expect("no panic"), Ok(End::Reboot));
    assert!(!machine.state().confirmed);
    machine.state().next = Some("1.0".into());
    machine.restart();
    let firmware = afterwards(&hub, &machine).await;
    let update = &firmware["update"];
    assert_eq!(
        (&firmware["version"], &update["state"], &update["error"]["step"], &update["error"]["code"]),
        (&json!("1.0"), &json!("reverted"), &json!("confirming"), &json!("notNow"))
    );
    assert_eq!(machine.pending_now(), None);
}

#[tokio::test]
async fn a_device_may_refuse_each_step() {
    let (hub, machine) = (Hub::start(&[]).await, FakeMachine::new());
    let image = vec![7; 1000];
    let files = Files::start(hub.tls.acceptor.clone(), vec![Reply::new(200, &image)]).await;
    let (_client, _agent) = run(&hub, &machine);
    hub.until("came up", |reported| reported["firmware"]["version"] == "1.0").await;
    for step in [Step::Downloading, Step::Verifying, Step::Applying, Step::Rebooting] {
        machine.state().refused = Some(step);
        // The device is busy until the failure before was acknowledged.
        assert_eq!(hub.call_when_idle("firmwareUpdate", &request(&files, &image)).await, 202);
        let reported = hub
            .until("failed", |reported| {
                let update = &reported["firmware"]["update"];
                update["state"] == "failed" && update["error"]["step"] == step.as_str()
            })
            .await;
        assert_eq!(reported["firmware"]["update"]["error"]["code"], "notNow");
        assert_eq!(machine.pending_now(), None);
    }
}
