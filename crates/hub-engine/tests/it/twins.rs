//! Twins through the engine: many writers, restarts, and what others see.

use hub_domain::twin::{TwinUpdate, WriteMode};
use hub_domain::version::Precondition;
use hub_engine::{Credential, Error};
use hub_testkit::TestHub;
use serde_json::json;

use crate::{desired, id, patch, tags};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_writers_on_one_twin_lose_nothing() {
    let test = TestHub::start().await;
    let (device, token) = test.register("d").await;
    let who = test.hub.authenticate_device(&device, Credential::Token(&token)).expect("its own token");
    let writers = (0..8).map(|writer| {
        let (hub, who, device) = (test.hub.clone(), who.clone(), device.clone());
        test.tasks.spawn(hub_engine::tasks::TaskKind::Connection, async move {
            for n in 0..100 {
                let change = patch(json!({ format!("w{writer}"): n }));
                hub.twin_patch_reported(&who, &device, &change, None).await.expect("patched");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("the writer ends");
    }
    let twin = test.hub.twin_get(&test.owner(), &device).expect("a twin").twin;
    assert_eq!(twin.reported.version, 801);
    for writer in 0..8 {
        assert_eq!(twin.reported.values[&format!("w{writer}")], json!(99));
    }
}

#[tokio::test]
async fn writes_are_seen_at_once_and_after_a_restart() {
    let test = TestHub::start().await;
    let (hub, owner) = (&test.hub, test.owner());
    test.register("d").await;
    test.register("d/m").await;
    let both = TwinUpdate { desired: desired(json!({"rate": 5})).desired, ..tags(json!({"site": "a"})) };
    let view = hub
        .twin_update(&owner, &id("d"), &both, WriteMode::Patch, &Precondition::None)
        .await
        .expect("patched");
    let page =
        hub.query(&owner, "SELECT * FROM devices WHERE tags.site = 'a'", None, None).await.expect("a page");
    assert_eq!(page.values(), [view.document().to_json()]);
    let again = TestHub::on(test.store.clone()).await;
    let reread = again.hub.twin_get(&again.owner(), &id("d")).expect("a twin");
    assert_eq!(reread.document().to_json(), view.document().to_json());
    assert_eq!(again.hub.module_list(&again.owner(), &id("d").device).expect("modules").len(), 1);
    again.register("d/n").await;
}

#[tokio::test]
async fn preconditions_and_limits_refuse_and_change_nothing() {
    let test = TestHub::start().await;
    let (hub, owner) = (&test.hub, test.owner());
    test.register("d").await;
    let before = hub.twin_get(&owner, &id("d")).expect("a twin").twin;
    let stale = Precondition::parse(Some("\"AAAAAAAAAAk=\""));
    let error = hub.twin_update(&owner, &id("d"), &tags(json!({"a": 1})), WriteMode::Patch, &stale).await;
    assert_eq!(error.expect_err("stale"), Error::PreconditionFailed);
    let large: serde_json::Map<_, _> = (0..3).map(|n| (format!("k{n}"), json!("x".repeat(4000)))).collect();
    let error =
        hub.twin_update(&owner, &id("d"), &tags(json!(large)), WriteMode::Patch, &Precondition::None).await;
    assert!(matches!(error.expect_err("too large"), Error::Invalid(text) if text.contains("8192")));
    let module = hub_domain::id::TwinId::parse("d", Some("none")).expect("an id");
    assert_eq!(hub.twin_get(&owner, &module).expect_err("absent"), Error::ModuleNotFound(module));
    assert_eq!(hub.twin_get(&owner, &id("d")).expect("a twin").twin, before);
}
