//! Direct methods: answers, deadlines, absences. Time is tokio's paused clock, so deadlines are exact.

use std::time::Duration;

use hub_domain::link::{CallId, Downlink};
use hub_domain::method::{MethodCall, MethodResult};
use hub_domain::session::Family;
use hub_engine::config::{METHOD_ANSWER_MARGIN, METHOD_CALLS_PER_DEVICE_MAX, SESSION_QUEUE_MAX};
use hub_engine::{Attachment, Credential, Error};
use hub_testkit::TestHub;
use tokio::time::Instant;

use crate::id;

fn call(response: u64, connect: u64) -> MethodCall {
    MethodCall::new("reboot", Some("{\"a\" : 1}".into()), Some(response), Some(connect))
        .expect("a valid call")
}

async fn attached(test: &TestHub, name: &str, methods: bool) -> (Attachment, hub_engine::Downlinks) {
    let token = test
        .device_token(&id(name), hub_domain::time::Timestamp::from_seconds(hub_testkit::START_SECONDS + 60));
    let who = test.hub.authenticate_device(&id(name), Credential::Token(&token)).expect("its own token");
    let (sender, queue) = hub_engine::downlinks(SESSION_QUEUE_MAX);
    let attachment = test.hub.attach(&who, &id(name), false, sender).await.expect("attached");
    if methods {
        test.hub.subscribe(&attachment, Family::Methods, false).await.expect("subscribed");
    }
    (attachment, queue)
}

fn answer(status: i32) -> MethodResult {
    MethodResult { status, payload: "[1]".into() }
}

async fn next_call(queue: &mut hub_engine::Downlinks) -> CallId {
    match queue.next().await {
        Some(Downlink::Call { call, name, payload }) => {
            assert_eq!((&*name, &*payload), ("reboot", "{\"a\" : 1}"), "name and bytes arrive as given");
            call
        }
        other => panic!("expected a call, got {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_comes_back_whatever_its_status() {
    let test = TestHub::start().await;
    test.register("d").await;
    let (attachment, mut queue) = attached(&test, "d", true).await;
    let (owner, d) = (test.owner(), id("d"));
    let device = async {
        let call = next_call(&mut queue).await;
        test.hub.method_complete(&attachment, call, answer(500));
        test.hub.method_complete(&attachment, call, answer(200));
    };
    let (result, ()) = tokio::join!(test.hub.method_call(&owner, &d, call(5, 0)), device);
    assert_eq!(result.expect("an answer"), answer(500));
    assert_eq!(test.hub.numbers().method_answers_ignored, 1, "the second answer found nobody");
}

#[tokio::test(start_paused = true)]
async fn deadlines_are_exact() {
    let test = TestHub::start().await;
    test.register("d").await;
    let (owner, d) = (test.owner(), id("d"));
    let begun = Instant::now();
    let offline = test.hub.method_call(&owner, &d, call(5, 0)).await.expect_err("offline");
    assert_eq!((offline, begun.elapsed()), (Error::DeviceOffline { waited: Duration::ZERO }, Duration::ZERO));
    let waited = test.hub.method_call(&owner, &d, call(5, 7)).await.expect_err("offline");
    assert_eq!(waited, Error::DeviceOffline { waited: Duration::from_secs(7) });
    assert!(
        begun.elapsed() <= Duration::from_secs(7)
            && begun.elapsed() >= Duration::from_secs(7) - METHOD_ANSWER_MARGIN * 2
    );

    let (attachment, mut queue) = attached(&test, "d", true).await;
    let begun = Instant::now();
    let device = async {
        let call = next_call(&mut queue).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        test.hub.method_complete(&attachment, call, answer(200));
    };
    let (late, ()) = tokio::join!(test.hub.method_call(&owner, &d, call(5, 0)), device);
    assert_eq!(late.expect_err("too late"), Error::TimedOut { after: Duration::from_secs(5) });
    assert!(begun.elapsed() <= Duration::from_secs(5) + METHOD_ANSWER_MARGIN);
    assert_eq!(test.hub.numbers().method_answers_ignored, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_the_device_to_come_and_subscribe() {
    let test = TestHub::start().await;
    test.register("d").await;
    let (owner, d) = (test.owner(), id("d"));
    let device = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (attachment, mut queue) = attached(&test, "d", false).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        test.hub.subscribe(&attachment, Family::Methods, false).await.expect("subscribed");
        let call = next_call(&mut queue).await;
        test.hub.method_complete(&attachment, call, answer(200));
        attachment
    };
    let (result, _attachment) = tokio::join!(test.hub.method_call(&owner, &d, call(5, 10)), device);
    assert_eq!(result.expect("an answer"), answer(200));
}

#[tokio::test(start_paused = true)]
async fn a_device_that_goes_and_a_foreign_answer() {
    let test = TestHub::start().await;
    test.register("d").await;
    test.register("e").await;
    let (attachment, mut queue) = attached(&test, "d", true).await;
    let (stranger, _queue) = attached(&test, "e", true).await;
    let (owner, d) = (test.owner(), id("d"));
    let device = async {
        let call = next_call(&mut queue).await;
        test.hub.method_complete(&stranger, call, answer(200));
        drop(attachment);
    };
    let (result, ()) = tokio::join!(test.hub.method_call(&owner, &d, call(5, 0)), device);
    assert_eq!(result.expect_err("it went"), Error::DeviceGone);
    assert_eq!(test.hub.numbers().method_answers_ignored, 1, "another device may not answer");
    let unknown = test.hub.method_call(&owner, &id("none"), call(5, 0)).await.expect_err("unknown");
    assert_eq!(unknown, Error::DeviceNotFound(id("none").device));
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_one_device_are_limited_and_forgotten_when_dropped() {
    let test = TestHub::start().await;
    test.register("d").await;
    let (_attachment, _queue) = attached(&test, "d", true).await;
    let (owner, d) = (test.owner(), id("d"));
    let mut waiting: Vec<_> = (0..METHOD_CALLS_PER_DEVICE_MAX)
        .map(|_| Box::pin(test.hub.method_call(&owner, &d, call(300, 0))))
        .collect();
    for call in &mut waiting {
        assert!(futures_util::poll!(call).is_pending());
    }
    let refused = test.hub.method_call(&owner, &d, call(5, 0)).await.expect_err("one too many");
    assert_eq!(refused, Error::TooManyCalls(id("d").device));
    drop(waiting);
    let result = test.hub.method_call(&owner, &d, call(5, 0)).await;
    assert!(
        matches!(result, Err(Error::TimedOut { .. })),
        "the dropped calls gave their places back: {result:?}"
    );
}
