//! Sessions: takeover, stored subscriptions, ends from above, downlinks in order.

use std::sync::Arc;

use hub_domain::id::TwinId;
use hub_domain::identity::{IdentitySpec, Status};
use hub_domain::link::{CloseReason, Downlink};
use hub_domain::session::Family;
use hub_domain::twin::WriteMode;
use hub_domain::version::Precondition;
use hub_engine::config::SESSION_QUEUE_MAX;
use hub_engine::{Attachment, Credential, Error, Principal};
use hub_testkit::TestHub;
use serde_json::json;

use crate::{desired, id};

async fn attach(
    test: &TestHub,
    who: &Principal,
    id: &TwinId,
    clean: bool,
) -> (Attachment, hub_engine::Downlinks) {
    let (sender, receiver) = hub_engine::downlinks(SESSION_QUEUE_MAX);
    (test.hub.attach(who, id, clean, sender).await.expect("attached"), receiver)
}

async fn device(test: &TestHub, name: &str) -> (TwinId, Principal) {
    let (id, token) = test.register(name).await;
    let who = test.hub.authenticate_device(&id, Credential::Token(&token)).expect("its own token");
    (id, who)
}

async fn set_rate(test: &TestHub, id: &TwinId, rate: u64) {
    let update = desired(json!({ "rate": rate }));
    test.hub
        .twin_update(&test.owner(), id, &update, WriteMode::Patch, &Precondition::None)
        .await
        .expect("patched");
}

#[tokio::test]
async fn the_newer_connection_takes_over() {
    let test = TestHub::start().await;
    let (id, who) = device(&test, "d").await;
    let (first, _queue) = attach(&test, &who, &id, false).await;
    let (second, _queue) = attach(&test, &who, &id, false).await;
    assert_eq!(first.ended().await, CloseReason::TakenOver);
    drop(first);
    assert_eq!(test.hub.connected_count(), 1);
    assert!(test.hub.twin_get(&test.owner(), &id).expect("a twin").connection.connected);
    drop(second);
    assert!(!test.hub.twin_get(&test.owner(), &id).expect("a twin").connection.connected);
}

#[tokio::test]
async fn one_device_cannot_attach_as_another() {
    let test = TestHub::start().await;
    let (_, who) = device(&test, "one").await;
    let (two, _) = device(&test, "two").await;
    let (sender, _queue) = hub_engine::downlinks(1);
    assert!(matches!(test.hub.attach(&who, &two, false, sender).await, Err(Error::Forbidden(_))));
    assert!(test.hub.twin_get(&who, &two).is_err());
    assert!(test.hub.twin_patch_reported(&who, &two, &crate::patch(json!({})), None).await.is_err());
}

#[tokio::test]
async fn subscriptions_outlive_connections_and_restarts_unless_clean() {
    let test = TestHub::start().await;
    let (id, who) = device(&test, "d").await;
    let (first, _queue) = attach(&test, &who, &id, false).await;
    assert!(!first.session_present);
    test.hub.subscribe(&first, Family::Desired, true).await.expect("subscribed");
    let again = TestHub::on(test.store.clone()).await;
    let token =
        again.device_token(&id, hub_domain::time::Timestamp::from_seconds(hub_testkit::START_SECONDS + 60));
    let who = again.hub.authenticate_device(&id, Credential::Token(&token)).expect("its own token");
    let (second, mut queue) = attach(&again, &who, &id, false).await;
    assert!(second.session_present && second.subscriptions().is_at_least_once(Family::Desired));
    set_rate(&again, &id, 7).await;
    let Some(Downlink::DesiredChanged { patch, version: 2 }) = queue.next().await else {
        panic!("no notification")
    };
    assert_eq!(*patch, *json!({"rate": 7}).as_object().expect("an object"));
    let (clean, _queue) = attach(&again, &who, &id, true).await;
    assert!(!clean.session_present && clean.subscriptions().is_empty());
    let (after, _queue) = attach(&again, &who, &id, false).await;
    assert!(
        !after.session_present && after.subscriptions().is_empty(),
        "a clean session drops the stored one"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_come_in_the_order_of_versions() {
    let test = Arc::new(TestHub::start().await);
    let (id, who) = device(&test, "d").await;
    // Room for all of them, since the writers do not wait for the reader.
    let (sender, mut queue) = hub_engine::downlinks(200);
    let attachment = test.hub.attach(&who, &id, false, sender).await.expect("attached");
    test.hub.subscribe(&attachment, Family::Desired, false).await.expect("subscribed");
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (test, id) = (test.clone(), id.clone());
            test.clone().tasks.spawn(hub_engine::tasks::TaskKind::Connection, async move {
                for n in 0..20 {
                    set_rate(&test, &id, writer * 100 + n).await;
                }
            })
        })
        .collect();
    for expected in 2..162 {
        let Some(Downlink::DesiredChanged { version, .. }) = queue.next().await else {
            panic!("no notification")
        };
        assert_eq!(version, expected);
    }
    for writer in writers {
        writer.await.expect("the writer ends");
    }
}

#[tokio::test]
async fn a_device_that_does_not_read_is_cut_off() {
    let test = TestHub::start().await;
    let (id, who) = device(&test, "d").await;
    let (attachment, _queue) = attach(&test, &who, &id, false).await;
    test.hub.subscribe(&attachment, Family::Desired, false).await.expect("subscribed");
    for rate in 0..=SESSION_QUEUE_MAX as u64 {
        set_rate(&test, &id, rate).await;
    }
    assert_eq!(attachment.ended().await, CloseReason::TooSlow);
}

#[tokio::test]
async fn disabling_deleting_and_new_keys_end_the_connection() {
    let test = TestHub::start().await;
    let (hub, owner) = (&test.hub, test.owner());
    for (name, reason) in
        [("a", CloseReason::Disabled), ("b", CloseReason::Deleted), ("c", CloseReason::CredentialsChanged)]
    {
        let (id, who) = device(&test, name).await;
        let (attachment, _queue) = attach(&test, &who, &id, false).await;
        let disabled = IdentitySpec { status: Some(Status::Disabled), ..IdentitySpec::default() };
        match reason {
            CloseReason::Disabled => {
                hub.identity_update(&owner, &id, disabled, &Precondition::Exists)
                    .await
                    .map(drop)
                    .expect("disabled");
            }
            CloseReason::Deleted => {
                hub.identity_delete(&owner, &id, &Precondition::None).await.expect("deleted")
            }
            _ => {
                let changed = IdentitySpec::default();
                hub.identity_update(&owner, &id, changed, &Precondition::Exists)
                    .await
                    .map(drop)
                    .expect("new keys");
            }
        }
        assert_eq!(attachment.ended().await, reason, "{name}");
    }
    let (gone, who) = device(&test, "e").await;
    hub.identity_delete(&owner, &gone, &Precondition::None).await.expect("deleted");
    let (sender, _queue) = hub_engine::downlinks(1);
    assert!(
        hub.attach(&who, &self::id("e"), false, sender).await.is_err(),
        "an old principal is worth nothing"
    );
}
