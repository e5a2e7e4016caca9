//! Configurations with gates: whom they are let into and when, what stays when a gate closes again, people, restarts; and that
//! the proof finds nothing to repair.

use std::sync::Arc;
use std::time::Duration;

use hub_domain::actor::Actor;
use hub_domain::configuration::ConfigurationSpec;
use hub_domain::context::HubContext;
use hub_domain::event::{EventKind, EventSource, GatesOf};
use hub_domain::twin::ConfigurationStatus;
use hub_domain::version::Precondition;
use hub_engine::Error;
use hub_engine::config::Config;
use hub_engine::configurations::ConfigurationView;
use hub_engine::configurations::preview::PreviewRequest;
use hub_engine::events::EventFilter;
use hub_store::memory::MemoryStore;
use hub_testkit::{START_SECONDS, TestHub};
use serde_json::{Value, json};

use crate::configurations::{at_rest, create, device_content, name, values, write};
use crate::jobs::fleet;
use crate::retirement::report;
use crate::{desired, id, tags};

/// For devices of site a, or modules, with these gates.
fn gated(of: &str, priority: u32, values: Value, gates: &Value) -> ConfigurationSpec {
    let body = json!({
        "content": device_content(values), "targetCondition": "tags.site = 'a'", "priority": priority, "gates": gates,
    });
    ConfigurationSpec::parse(name(of), &body).expect("a configuration")
}

fn rate(rate: u32) -> Value {
    json!({"properties.desired.rate": rate})
}

pub(crate) fn power() -> Value {
    json!({"power": {"minimumBatteryPercent": 50}})
}

pub(crate) async fn battery(test: &TestHub, device: &str, percent: u32) {
    report(test, device, json!({"context": {"power": {"batteryPercent": percent}}})).await;
}

async fn site(count: usize) -> TestHub {
    let config = Config { configuration_content_editable: true, ..Config::default() };
    let test = TestHub::on_with(Arc::new(MemoryStore::new()), config).await;
    fleet(&test, count).await;
    for n in 0..count {
        write(&test, &format!("d{n:03}"), tags(json!({"site": "a"}))).await;
    }
    test
}

async fn update(test: &TestHub, spec: ConfigurationSpec) -> Result<ConfigurationView, Error> {
    test.hub.configuration_update(&test.owner(), spec, &Precondition::None).await
}

async fn view(test: &TestHub, of: &str) -> ConfigurationView {
    test.hub.configuration_get(&test.owner(), &name(of)).await.expect("a configuration")
}

fn status(test: &TestHub, device: &str, of: &str) -> Option<ConfigurationStatus> {
    let view = test.hub.twin_get(&test.owner(), &id(device)).expect("a twin");
    view.twin.configurations.get(&name(of)).copied()
}

/// Who waits, by reason.
async fn waiting(test: &TestHub, of: &str) -> (u64, Vec<(String, u64)>) {
    let waiting = view(test, of).await.waiting.expect("it has gates");
    (waiting.twins, waiting.reasons.into_iter().map(|(code, count)| (code, count.devices)).collect())
}

const APPLIED: Option<ConfigurationStatus> = Some(ConfigurationStatus::Applied);
const TARGETED: Option<ConfigurationStatus> = Some(ConfigurationStatus::Targeted);

#[tokio::test(start_paused = true)]
async fn a_gate_that_opens_lets_it_in_at_once_and_one_that_closes_takes_nothing_away() {
    let test = site(3).await;
    create(&test, crate::configurations::spec("base", "*", 1, device_content(rate(1)))).await;
    battery(&test, "d000", 80).await;
    battery(&test, "d001", 10).await;
    at_rest(&test).await;
    let spec =
        gated("fast", 5, json!({"properties.desired.rate": 2, "properties.desired.mode": "x"}), &power());
    let asked = PreviewRequest { put: vec![spec.clone()], shown_max: 9, ..PreviewRequest::default() };
    let preview = test.hub.configurations_preview(&test.owner(), asked).await.expect("thought through");
    let fares = &preview.configurations[&name("fast")];
    assert_eq!((fares.enter, fares.targeted, fares.waiting.twins, preview.changed), (3, 3, 2, 3));
    create(&test, spec).await;
    at_rest(&test).await;
    // Who waits keeps what the next priority says.
    assert_eq!(values(&test, "d000"), json!({"rate": 2, "mode": "x"}));
    assert_eq!((values(&test, "d001"), values(&test, "d002")), (json!({"rate": 1}), json!({"rate": 1})));
    let statuses = ["d000", "d001", "d002"].map(|device| status(&test, device, "fast"));
    assert_eq!(statuses, [APPLIED, TARGETED, TARGETED]);
    let fast = view(&test, "fast").await;
    assert_eq!((fast.system["targetedCount"], fast.system["appliedCount"]), (3, 1));
    let reasons = vec![("power.batteryLow".to_owned(), 1), ("power.missing".to_owned(), 1)];
    assert_eq!(waiting(&test, "fast").await, (2, reasons));
    let explained = test.hub.explain(&test.owner(), &id("d001")).await.expect("explained");
    let fast = explained.configurations.iter().find(|one| one.configuration.spec().id == name("fast"));
    let fast = fast.expect("it targets it");
    assert!(fast.reason.contains("waits at a closed gate: power: the battery is low"), "{}", fast.reason);
    let verdict = fast.waits_for.as_ref().expect("a verdict");
    assert_eq!(verdict.reasons[0].facts[0].value, Some(json!(10)));
    assert!(explained.settled && explained.error.is_none());

    // In the commit that opens it, and for good.
    battery(&test, "d001", 60).await;
    assert_eq!(
        (values(&test, "d001"), status(&test, "d001", "fast")),
        (json!({"rate": 2, "mode": "x"}), APPLIED)
    );
    battery(&test, "d001", 5).await;
    battery(&test, "d000", 5).await;
    write(&test, "d001", desired(json!({"rate": 9}))).await;
    assert_eq!(
        values(&test, "d001"),
        json!({"rate": 2, "mode": "x"}),
        "what it owns is its own, gate or not"
    );
    at_rest(&test).await;

    // Who leaves the target and comes back is let in anew.
    write(&test, "d000", tags(json!({"site": "b"}))).await;
    assert_eq!(values(&test, "d000"), json!({"rate": 1}));
    write(&test, "d000", tags(json!({"site": "a"}))).await;
    assert_eq!((values(&test, "d000"), status(&test, "d000", "fast")), (json!({"rate": 1}), TARGETED));
    at_rest(&test).await;
    // A restart remembers who was let in.
    let again = test.killed().await;
    at_rest(&again).await;
    assert_eq!(
        (values(&again, "d001"), values(&again, "d000")),
        (json!({"rate": 2, "mode": "x"}), json!({"rate": 1}))
    );
    battery(&again, "d000", 90).await;
    assert_eq!(values(&again, "d000"), json!({"rate": 2, "mode": "x"}));
    at_rest(&again).await;
    assert_eq!(waiting(&again, "fast").await, (1, vec![("power.missing".to_owned(), 1)]));
}

#[tokio::test(start_paused = true)]
async fn new_content_waits_and_the_old_one_stays_until_then() {
    let test = site(2).await;
    for device in ["d000", "d001"] {
        battery(&test, device, 80).await;
    }
    let old =
        json!({"properties.desired.rate": 2, "properties.desired.old": true, "properties.desired.a.b": 1});
    create(&test, gated("fast", 5, old, &power())).await;
    create(
        &test,
        crate::configurations::spec(
            "low",
            "*",
            1,
            device_content(json!({"properties.desired.rate": 1, "properties.desired.low": 1})),
        ),
    )
    .await;
    at_rest(&test).await;
    let before = json!({"rate": 2, "old": true, "a": {"b": 1}, "low": 1});
    assert_eq!(values(&test, "d000"), before);
    battery(&test, "d000", 5).await;
    let new =
        || gated("fast", 5, json!({"properties.desired.rate": 3, "properties.desired.new": true}), &power());
    update(&test, new()).await.expect("edited");
    // A write before the sweep comes to it must not slip through either.
    write(&test, "d000", tags(json!({"seen": 1}))).await;
    at_rest(&test).await;
    assert_eq!((values(&test, "d000"), status(&test, "d000", "fast")), (before.clone(), TARGETED));
    assert_eq!(values(&test, "d001"), json!({"rate": 3, "new": true, "low": 1}));
    // A higher priority takes what it sets, and what is kept is defended against lower ones.
    create(&test, gated("top", 9, json!({"properties.desired.old": false}), &json!({}))).await;
    at_rest(&test).await;
    assert_eq!(values(&test, "d000"), json!({"rate": 2, "old": false, "a": {"b": 1}, "low": 1}));
    battery(&test, "d000", 70).await;
    assert_eq!(values(&test, "d000"), json!({"rate": 3, "new": true, "old": false, "low": 1}));
    // Deleting it takes everything away, gates or not.
    battery(&test, "d000", 5).await;
    test.hub.configuration_delete(&test.owner(), &name("fast"), &Precondition::None).await.expect("deleted");
    at_rest(&test).await;
    assert_eq!(values(&test, "d000"), json!({"rate": 1, "old": false, "low": 1}));
    let twin = test.hub.twin_get(&test.owner(), &id("d000")).expect("a twin").twin;
    assert!(twin.let_in.is_empty(), "{:?}", twin.let_in);
}

#[tokio::test(start_paused = true)]
async fn windows_open_by_the_clock_and_by_the_hubs_context() {
    let test = site(3).await;
    let hour = (START_SECONDS / 3600 + 2) % 24;
    let gates = json!({"window": {"fromTag": "tags.window"}});
    for (device, window) in [("d000", "soon"), ("d001", "soon"), ("d002", "later")] {
        write(&test, device, tags(json!({"timeZone": "Etc/UTC", "window": window}))).await;
    }
    let rule = |hour: i64| json!({"rrule": format!("FREQ=DAILY;BYHOUR={hour}"), "durationInSeconds": 1800});
    let context = |document: Value| HubContext::parse(&document).expect("a context");
    let soon = context(json!({"windows": {"soon": rule(hour)}}));
    test.hub.context_replace(&test.owner(), soon).await.expect("replaced");
    create(&test, gated("night", 5, rate(2), &gates)).await;
    at_rest(&test).await;
    let reasons = vec![("window.notDefined".to_owned(), 1), ("window.outsideWindow".to_owned(), 2)];
    assert_eq!(waiting(&test, "night").await, (3, reasons));
    let opens = view(&test, "night").await.waiting.expect("gates").reasons["window.outsideWindow"].next;
    let wait = opens.expect("it opens").since(test.hub.now());
    test.advance(wait.saturating_sub(Duration::from_secs(30)));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(status(&test, "d000", "night"), TARGETED);
    test.advance(Duration::from_secs(30));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!((values(&test, "d000"), values(&test, "d001")), (json!({"rate": 2}), json!({"rate": 2})));
    assert_eq!(status(&test, "d002", "night"), TARGETED);
    at_rest(&test).await;
    // The hub learns what "later" means, and it is now.
    let both = context(json!({"windows": {"soon": rule(hour), "later": rule(hour)}}));
    test.hub.context_replace(&test.owner(), both).await.expect("replaced");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(values(&test, "d002"), json!({"rate": 2}));
    // A window that opens while no hub runs.
    let tomorrow = gated("day", 6, rate(3), &json!({"window": rule((hour + 3) % 24)}));
    create(&test, tomorrow).await;
    at_rest(&test).await;
    assert_eq!(waiting(&test, "day").await.0, 3);
    let again = test.killed().await;
    again.advance(Duration::from_secs(3 * 3600 + 2 * 3600));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(values(&again, "d001"), json!({"rate": 3}));
    at_rest(&again).await;
}

#[tokio::test(start_paused = true)]
async fn gates_are_overridden_by_somebody_for_a_reason_until_something_else_is_wanted() {
    let test = site(2).await;
    battery(&test, "d000", 5).await;
    create(
        &test,
        crate::configurations::spec("free", "*", 1, device_content(json!({"properties.desired.free": 1}))),
    )
    .await;
    create(&test, gated("fast", 5, rate(2), &power())).await;
    at_rest(&test).await;
    let overriding = async |policy: &str, of: &str, reason: &str| {
        test.hub.configuration_override_gates(&test.service(policy), &name(of), reason).await.map(drop)
    };
    let refused = overriding("service", "fast", "x").await.expect_err("no right");
    assert!(matches!(refused, Error::Forbidden(_)), "{refused:?}");
    let refused = overriding("registryReadWrite", "fast", "").await.expect_err("no reason");
    assert!(matches!(&refused, Error::Invalid(text) if text.contains("reason")), "{refused}");
    let refused = overriding("registryReadWrite", "free", "x").await.expect_err("no gates");
    assert!(matches!(&refused, Error::Conflict(text) if text.contains("has no gates")), "{refused}");
    let refused = overriding("registryReadWrite", "none", "x").await.expect_err("not there");
    assert_eq!(refused, Error::ConfigurationNotFound(name("none")));
    overriding("registryReadWrite", "fast", "CVE-2026-1").await.expect("overridden");
    at_rest(&test).await;
    assert_eq!(
        (values(&test, "d000"), values(&test, "d001")),
        (json!({"rate": 2, "free": 1}), json!({"rate": 2, "free": 1}))
    );
    let refused = overriding("registryReadWrite", "fast", "again").await.expect_err("twice");
    assert!(
        matches!(&refused, Error::Conflict(text) if text.contains("overridden already, by policy:registryReadWrite")),
        "{refused}"
    );
    let shown = view(&test, "fast").await.configuration.to_json();
    assert_eq!(
        (&shown["gatesOverride"]["by"], &shown["gatesOverride"]["reason"]),
        (&json!("policy:registryReadWrite"), &json!("CVE-2026-1"))
    );
    let filter = EventFilter { sources: vec![EventSource::Job], device: None };
    let page = test.hub.events_read(&test.owner(), &filter, None, 10).await.expect("events");
    let told: Vec<_> =
        page.events.iter().map(|(_, event)| (event.id.to_string(), event.kind.clone())).collect();
    let closed = |code: &str| EventKind::Override {
        gates_of: GatesOf::Configuration(name("fast")),
        reason: "CVE-2026-1".into(),
        closed: vec![code.into()],
        actor: Actor::Policy("registryReadWrite".into()),
    };
    assert_eq!(told, [("d000".into(), closed("power.batteryLow")), ("d001".into(), closed("power.missing"))]);
    // It holds for who comes later and for other changes, and ends with new content.
    let same = || gated("fast", 7, rate(2), &power());
    assert!(
        update(&test, same())
            .await
            .expect("edited")
            .configuration
            .gating()
            .is_some_and(|it| it.overridden.is_some())
    );
    test.register("late").await;
    write(&test, "late", tags(json!({"site": "a"}))).await;
    assert_eq!(status(&test, "late", "fast"), APPLIED);
    update(&test, gated("fast", 7, rate(3), &power())).await.expect("edited");
    at_rest(&test).await;
    assert_eq!((values(&test, "d000"), waiting(&test, "fast").await.0), (json!({"rate": 2, "free": 1}), 3));
    assert!(view(&test, "fast").await.configuration.gating().is_some_and(|it| it.overridden.is_none()));
    // One that says so itself when it is written.
    let mut gates = power();
    gates["override"] = json!({"reason": "at once"});
    let now = update(&test, gated("fast", 7, rate(3), &gates)).await.expect("edited").configuration.to_json();
    assert_eq!(now["gatesOverride"]["by"], "policy:iothubowner");
    at_rest(&test).await;
    assert_eq!(values(&test, "d000"), json!({"rate": 3, "free": 1}));
}

#[tokio::test(start_paused = true)]
async fn gates_come_and_go_and_meet_waves() {
    let test = site(4).await;
    let plain = ConfigurationSpec { gates: None, ..gated("fast", 5, rate(2), &json!({})) };
    create(&test, plain.clone()).await;
    at_rest(&test).await;
    // Who had it before there were gates has it still.
    update(&test, gated("fast", 5, rate(2), &power())).await.expect("edited");
    test.register("late").await;
    write(&test, "late", tags(json!({"site": "a"}))).await;
    at_rest(&test).await;
    assert_eq!((status(&test, "d000", "fast"), status(&test, "late", "fast")), (APPLIED, TARGETED));
    // Clients of the service do not know gates and keep them; none at all takes them away.
    update(&test, plain).await.expect("edited");
    at_rest(&test).await;
    assert_eq!(status(&test, "late", "fast"), TARGETED);
    assert!(view(&test, "fast").await.configuration.to_json()["gates"].is_object());
    update(&test, gated("fast", 5, rate(2), &json!({}))).await.expect("edited");
    at_rest(&test).await;
    assert_eq!((status(&test, "late", "fast"), view(&test, "fast").await.waiting), (APPLIED, None));

    let mut body = json!({
        "content": device_content(json!({"properties.desired.wave": 1})), "targetCondition": "tags.site = 'a'",
        "priority": 6, "gates": power(),
        "rollout": {"waves": [{"devices": 2}, {"rest": true}], "advance": {"minObservationInSeconds": 5}},
    });
    let both = ConfigurationSpec::parse(name("both"), &body).expect("a configuration");
    create(&test, both).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    at_rest(&test).await;
    let counts = async || {
        let view = view(&test, "both").await;
        let waves = &view.configuration.stages().expect("waves").state().waves;
        waves
            .iter()
            .map(|wave| (wave.opened.is_some(), wave.pending, wave.ended.succeeded))
            .collect::<Vec<_>>()
    };
    // The first wave is open and waits; nobody behind it goes before it is done.
    assert_eq!(counts().await, [(true, 2, 0), (false, 3, 0)]);
    for n in 0..4 {
        battery(&test, &format!("d{n:03}"), 90).await;
    }
    battery(&test, "late", 90).await;
    assert_eq!(counts().await, [(true, 0, 2), (false, 3, 0)]);
    for _ in 0..20 {
        test.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(counts().await, [(true, 0, 2), (true, 0, 3)]);
    at_rest(&test).await;

    for (gates, content, part) in [
        (json!({"power": {}}), device_content(rate(1)), "gates.power"),
        (json!({"powr": {}}), device_content(rate(1)), "gates.powr"),
        (json!([]), device_content(rate(1)), "gates: is []"),
    ] {
        (body["gates"], body["content"]) = (gates, content);
        body["rollout"] = Value::Null;
        let refused = ConfigurationSpec::parse(name("bad"), &body).expect_err(part).to_string();
        assert!(refused.contains(part), "{part}: {refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn modules_have_a_context_of_their_own() {
    let test = site(1).await;
    test.register("d000/m").await;
    let body = json!({
        "content": {"moduleContent": {"properties.desired.rate": 2}}, "gates": power(),
        "targetCondition": "FROM devices.modules WHERE moduleId = 'm'",
    });
    create(&test, ConfigurationSpec::parse(name("mod"), &body).expect("a configuration")).await;
    at_rest(&test).await;
    let module = hub_domain::id::TwinId::parse("d000", Some("m")).expect("an id");
    assert_eq!(waiting(&test, "mod").await, (1, vec![("power.missing".to_owned(), 1)]));
    let token = test.device_token(&module, hub_domain::time::Timestamp::from_seconds(START_SECONDS + 86_400));
    let who =
        test.hub.authenticate_device(&module, hub_engine::Credential::Token(&token)).expect("its own token");
    let facts = crate::patch(json!({"context": {"power": {"batteryPercent": 70}}}));
    test.hub.twin_patch_reported(&who, &module, &facts, None).await.expect("reported");
    let twin = test.hub.twin_get(&test.owner(), &module).expect("a twin").twin;
    assert_eq!(twin.desired.values.get("rate"), Some(&json!(2)));
    at_rest(&test).await;
}
