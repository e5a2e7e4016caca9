//! The agent's commands: what is refused, and what reboot, reset, configuration and status report.

use std::sync::Arc;
use std::time::Duration;

use fleetyard_device::agent::{Action, End, Pending, Step};
use serde_json::{Value, json};

use crate::hub::{Hub, Trick};
use crate::machine::{FakeMachine, run};
use crate::soon;

/// An agent that has come up.
async fn up(
    hub: &Hub,
    machine: &Arc<FakeMachine>,
) -> tokio::task::JoinHandle<Result<End, fleetyard_device::Error>> {
    let boot = format!("boot-{}", machine.state().boots);
    let before = hub.patches().len();
    let (_, agent) = run(hub, machine);
    hub.until("came up", |_| {
        hub.patches()[before..].iter().any(|patch| patch["device"]["bootId"] == json!(boot))
    })
    .await;
    agent
}

#[tokio::test]
async fn wrong_calls_are_refused_and_change_nothing() {
    let (hub, machine) = (Hub::start(&[]).await, FakeMachine::new());
    let _agent = up(&hub, &machine).await;
    let before = hub.patches().len();
    let check = async |name: &str, payload: Value, status: i32, code: &str| {
        let (got, answer) = hub.call(name, &payload).await;
        assert_eq!((got, &answer["error"]["code"]), (status, &json!(code)), "{name} {payload}: {answer}");
        assert!(answer["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer}");
    };
    for name in ["reboot", "factoryReset", "reportStatus"] {
        for payload in [json!([1]), json!("now"), json!(1), json!(true)] {
            check(name, payload, 400, "badParameter").await;
        }
    }
    for payload in [
        Value::Null,
        json!([]),
        json!({}),
        json!({"version": "2", "url": "https://h/", "sha256": "a".repeat(64)}),
        json!({"version": "2", "url": "https://h/", "sha256": "g".repeat(64), "size": 1}),
        json!({"version": "2", "url": "http://h/", "sha256": "a".repeat(64), "size": 1}),
        json!({"version": "2", "url": "https://h/", "sha256": "a".repeat(64), "size": 2_147_483_649u64}),
        json!({"version": "2", "url": "https://h/", "sha256": "a".repeat(64), "size": -1}),
        json!({"version": "", "url": "https://h/", "sha256": "a".repeat(64), "size": 1}),
        json!({"version": "2".repeat(2049), "url": "https://h/", "sha256": "a".repeat(64), "size": 1}),
    ] {
        check("firmwareUpdate", payload, 400, "badParameter").await;
    }
    check("dance", Value::Null, 404, "unknownMethod").await;
    check("Reboot", Value::Null, 404, "unknownMethod").await;
    assert_eq!(hub.patches().len(), before);
    assert_eq!(machine.pending_now(), None);
}

#[tokio::test]
async fn while_a_command_runs_others_are_busy() {
    let (hub, machine) = (Hub::start(&[]).await, FakeMachine::new());
    let _agent = up(&hub, &machine).await;
    machine.steps.forget_permits(100);
    let update = json!({"version": "2", "url": "https://127.0.0.1:1/", "sha256": "a".repeat(64), "size": 1});
    machine.state().refused = Some(fleetyard_device::agent::Step::Downloading);
    let (status, answer) = hub.call("firmwareUpdate", &update).await;
    assert_eq!((status, answer), (202, json!({ "accepted": true, "bootId": "boot-1" })));
    hub.until("begun", |reported| reported["firmware"]["update"]["state"] == "downloading").await;
    for name in ["reboot", "reportStatus", "firmwareUpdate", "dance"] {
        let (status, answer) = hub.call(name, &Value::Null).await;
        assert_eq!((status, &answer["error"]["code"]), (409, &json!("busy")), "{name}");
    }
    machine.steps.add_permits(1);
    let reported = hub.until("ended", |reported| reported["firmware"]["update"]["state"] == "failed").await;
    assert_eq!(reported["firmware"]["update"]["error"]["code"], "notNow");
    assert_eq!(hub.call_when_idle("reportStatus", &json!({})).await, 200);
    let reported = hub.until("a status", |reported| reported["status"]["battery"] == 80).await;
    assert!(reported["status"]["reportedAt"].is_u64());
}

#[tokio::test]
async fn what_the_device_cannot_bear_now_is_put_off_and_changes_nothing() {
    let (hub, machine) = (Hub::start(&[]).await, FakeMachine::new());
    let agent = up(&hub, &machine).await;
    let before = hub.patches().len();
    let update = json!({"version": "2", "url": "https://127.0.0.1:1/", "sha256": "a".repeat(64), "size": 1});
    for (action, name, payload) in [
        (Action::Reboot, "reboot", Value::Null),
        (Action::FactoryReset, "factoryReset", Value::Null),
        (Action::Update(Step::Downloading), "firmwareUpdate", update),
    ] {
        machine.state().not_now = Some((action, Duration::from_millis(1500)));
        let answer = (503, json!({ "deferred": { "afterSeconds": 1.5, "reason": "in use" } }));
        assert_eq!(hub.call(name, &payload).await, answer, "{name}");
        // A wrong call is wrong at any time.
        assert_eq!(hub.call(name, &json!([])).await.0, 400, "{name}");
    }
    assert_eq!((hub.patches().len(), machine.pending_now()), (before, None));
    // What asks for nothing to be done is answered, and what was put off is done when it is asked for again.
    assert_eq!(hub.call("reportStatus", &Value::Null).await.0, 200);
    machine.state().not_now = None;
    assert_eq!(hub.call_when_idle("reboot", &Value::Null).await, 202);
    assert_eq!(soon("ended", agent).await.expect("no panic"), Ok(End::Reboot));
}

#[tokio::test]
async fn a_reboot_is_proved_by_the_boot_id() {
    let (hub, machine) = (Hub::start(&[]).await, FakeMachine::new());
    let check = async |restarts: bool, state: &str, code: Value| {
        let agent = up(&hub, &machine).await;
        let boot = machine.boot_now();
        assert_eq!(hub.call("reboot", &Value::Null).await.0, 202);
        assert_eq!(soon("ended", agent).await.expect("no panic"), Ok(End::Reboot));
        let under_way = hub.reported();
        assert_eq!(
            (&under_way["reboot"]["state"], &under_way["reboot"]["bootIdBefore"]),
            (&json!("rebooting"), &json!(boot))
        );
        assert_eq!(machine.pending_now(), Some(Pending::Reboot { boot_id_before: boot.clone() }));
        if restarts {
            machine.restart();
        }
        let (client, _agent) = run(&hub, &machine);
        let reported = hub.until("back", |reported| reported["reboot"]["state"] != "rebooting").await;
        let reboot = &reported["reboot"];
        assert_eq!((&reboot["state"], &reboot["error"]["code"]), (&json!(state), &code));
        assert_eq!(
            (&reboot["bootIdBefore"], &reboot["bootIdAfter"]),
            (&json!(boot), &json!(machine.boot_now()))
        );
        // Answered only after the announcement was acknowledged and forgotten.
        hub.call("reportStatus", &Value::Null).await;
        assert_eq!(machine.pending_now(), None);
        client.close().await;
    };
    check(true, "done", Value::Null).await;
    check(false, "failed", json!("notRebooted")).await;
    check(true, "done", Value::Null).await;
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_done() {
    let (hub, machine) = (Hub::start(&[]).await, FakeMachine::new());
    let _agent = up(&hub, &machine).await;
    machine.state().store_fails = true;
    hub.call("reboot", &Value::Null).await;
    let reported = hub.until("failed", |reported| reported["reboot"]["state"] == "failed").await;
    assert_eq!(reported["reboot"]["error"], json!({ "code": "storage", "message": "the disk is full" }));
    // It goes on serving.
    assert_eq!(hub.call("reportStatus", &Value::Null).await.0, 200);
}

#[tokio::test]
async fn a_factory_reset_removes_the_configuration() {
    let (hub, machine) = (Hub::start(&[]).await, FakeMachine::new());
    hub.desire(&json!({ "configuration": { "interval": 60 } }));
    let agent = up(&hub, &machine).await;
    hub.until("configured", |reported| reported["configuration"]["state"] == "applied").await;
    machine.state().reset_fails = true;
    hub.call("factoryReset", &Value::Null).await;
    let reported = hub.until("failed", |reported| reported["factoryReset"]["state"] == "failed").await;
    assert_eq!(reported["factoryReset"]["error"]["code"], "resetFailed");
    machine.state().reset_fails = false;
    hub.call("factoryReset", &Value::Null).await;
    assert_eq!(soon("ended", agent).await.expect("no panic"), Ok(End::Reboot));
    assert!(machine.state().configuration.is_none());
    assert!(hub.reported().get("configuration").is_none());
    machine.restart();
    let _agent = up(&hub, &machine).await;
    let reported = hub.until("done", |reported| reported["factoryReset"]["state"] == "done").await;
    assert_eq!(reported["factoryReset"]["error"], Value::Null);
    // Desired properties are the operator's: what is still wanted is applied again.
    hub.until("configured", |reported| reported["configuration"]["values"]["interval"] == 60).await;
}

#[tokio::test]
async fn a_configuration_applies_as_a_whole() {
    let (hub, machine) = (Hub::start(&[]).await, FakeMachine::new());
    let _agent = up(&hub, &machine).await;
    assert!(hub.reported().get("configuration").is_none());
    let check = async |configuration: Value, state: &str, code: Value, values: Value| {
        hub.desire(&json!({ "configuration": configuration }));
        let version = hub.desired_version();
        let reported = hub.until("taken", |reported| reported["configuration"]["version"] == version).await;
        let document = &reported["configuration"];
        assert_eq!(
            (&document["state"], &document["error"]["code"]),
            (&json!(state), &code),
            "{configuration}"
        );
        assert_eq!(document["values"], values, "{configuration}");
        assert_eq!(json!(machine.state().configuration), values, "{configuration}");
    };
    let first = json!({ "interval": 60, "log": { "level": "info", "size": 3 } });
    check(first.clone(), "applied", Value::Null, first.clone()).await;
    // Keys that are gone from desired are gone from what is reported.
    let second = json!({ "interval": 5, "log": { "level": "info" } });
    check(json!({ "interval": 5, "log": { "size": null } }), "applied", Value::Null, second.clone()).await;
    check(json!({ "bad": 1 }), "failed", json!("badValue"), second.clone()).await;
    check(json!(7), "failed", json!("badConfiguration"), second).await;
    check(json!({ "log": 1 }), "applied", Value::Null, json!({ "log": 1 })).await;
    check(json!({ "log": { "a": 1 } }), "applied", Value::Null, json!({ "log": { "a": 1 } })).await;
}

#[tokio::test]
async fn a_change_that_was_missed_is_found_after_reconnecting() {
    let (hub, machine) = (Hub::start(&[]).await, FakeMachine::new());
    let _agent = up(&hub, &machine).await;
    hub.play(Trick::Refuse(3));
    // Nobody listens when the change is written.
    hub.cut();
    hub.desire(&json!({ "configuration": { "interval": 9 } }));
    hub.until("found", |reported| reported["configuration"]["values"]["interval"] == 9).await;
}

#[tokio::test]
async fn nothing_stays_under_way() {
    let (hub, machine) = (Hub::start(&[]).await, FakeMachine::new());
    hub.report(&json!({
        "reboot": { "state": "rebooting", "bootIdBefore": "boot-0" },
        "factoryReset": { "state": "done" },
        "firmware": { "update": { "state": "applying", "progress": 70 } },
    }));
    let _agent = up(&hub, &machine).await;
    let reported = hub.reported();
    for (document, step) in
        [(&reported["reboot"], Value::Null), (&reported["firmware"]["update"], json!("applying"))]
    {
        assert_eq!(
            (&document["state"], &document["error"]["code"]),
            (&json!("failed"), &json!("interrupted"))
        );
        assert_eq!(document["error"].get("step").cloned().unwrap_or_default(), step);
    }
    assert_eq!(reported["factoryReset"], json!({ "state": "done" }));
}
