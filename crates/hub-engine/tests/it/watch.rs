//! Queries that stand: their rows, then what happens to them, and what becomes of a reader who is too slow.

use std::collections::BTreeMap;

use hub_domain::id::TwinId;
use hub_domain::twin::WriteMode;
use hub_domain::version::Precondition;
use hub_engine::config::{
    WATCH_BACKLOG_STEPS_MAX, WATCH_QUEUE_STEPS_MAX, WATCH_QUEUE_STEPS_SHARE, WATCHES_MAX,
};
use hub_engine::queries::watch::{Lagged, Line, QueryWatch, Step};
use hub_engine::{Credential, Error};
use hub_testkit::TestHub;
use serde_json::{Value, json};

use crate::{id, patch};

fn watch(test: &TestHub, text: &str) -> QueryWatch {
    test.hub.query_watch(&test.owner(), text).expect("it can stand")
}

/// What there is to take: `+`, `~` or `-` with the device and what is shown, or how many rows there are.
async fn told(watch: &mut QueryWatch) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let lines = watch.take().await.expect("not too slow");
        let is_ready = lines.iter().any(|line| matches!(line, Line::Ready { .. }));
        let is_empty = lines.is_empty();
        all.extend(lines.into_iter().map(|line| match line {
            Line::Row { step, id, row, .. } => {
                let sign = match step {
                    Step::Enter => '+',
                    Step::Change => '~',
                    Step::Leave => '-',
                };
                let row = row.map(|row| format!(" {row}")).unwrap_or_default();
                format!("{sign}{id}{row}")
            }
            Line::Ready { rows, .. } => format!("{rows} rows"),
        }));
        if is_ready || is_empty {
            return all;
        }
    }
}

async fn tag(test: &TestHub, id: &TwinId, tags: Value) {
    let update = crate::tags(tags);
    let owner = test.owner();
    test.hub.twin_update(&owner, id, &update, WriteMode::Patch, &Precondition::None).await.expect("patched");
}

#[tokio::test]
async fn rows_come_first_and_then_what_happens_to_them() {
    let test = TestHub::start().await;
    let (a, token) = test.register("a").await;
    let (b, _) = test.register("b").await;
    tag(&test, &a, json!({ "site": "x" })).await;
    let mut sites = watch(&test, "SELECT deviceId, tags.site FROM devices WHERE tags.site IN ['x', 'y']");
    let mut connected = watch(&test, "SELECT deviceId FROM devices WHERE connectionState = 'Connected'");
    let mut hot = watch(&test, "SELECT deviceId FROM devices WHERE properties.reported.t > 80");
    let row = |site: &str| json!({ "deviceId": "a", "site": site });
    assert_eq!(told(&mut sites).await, [format!("+a {}", row("x")), "1 rows".into()]);
    assert_eq!(told(&mut connected).await, ["0 rows"]);
    assert_eq!(told(&mut hot).await, ["0 rows"]);

    tag(&test, &b, json!({ "other": 1 })).await;
    tag(&test, &a, json!({ "other": 1 })).await;
    assert_eq!(told(&mut sites).await, [""; 0], "nothing that it shows or tests");
    tag(&test, &a, json!({ "site": "y" })).await;
    tag(&test, &b, json!({ "site": "x" })).await;
    tag(&test, &a, json!({ "site": null })).await;
    let b_row = json!({ "deviceId": "b", "site": "x" });
    assert_eq!(told(&mut sites).await, [format!("~a {}", row("y")), format!("+b {b_row}"), "-a".into()]);

    let who = test.hub.authenticate_device(&a, Credential::Token(&token)).expect("its own token");
    let (sender, _queue) = hub_engine::downlinks(8);
    let attachment = test.hub.attach(&who, &a, false, sender).await.expect("attached");
    for t in [70, 90, 95, 60] {
        test.hub.twin_patch_reported(&who, &a, &patch(json!({ "t": t })), None).await.expect("reported");
    }
    drop(attachment);
    let only = json!({ "deviceId": "a" });
    assert_eq!(told(&mut connected).await, [format!("+a {only}"), "-a".into()]);
    assert_eq!(told(&mut hot).await, [format!("+a {only}"), "-a".into()]);
    test.hub.identity_delete(&test.owner(), &b, &Precondition::None).await.expect("deleted");
    assert_eq!(told(&mut sites).await, ["-b"]);
}

#[tokio::test]
async fn changes_while_the_rows_are_read_are_neither_lost_nor_told_twice() {
    let test = TestHub::start().await;
    let mut ids = Vec::new();
    for number in 0..100 {
        let (id, _) = test.register(&format!("d{number:03}")).await;
        ids.push(id);
    }
    let mut watch = watch(&test, "SELECT tags.n FROM devices WHERE NOT IS_DEFINED(tags.gone)");
    let mut rows = BTreeMap::new();
    let mut counted = 0;
    for (round, id) in ids.iter().rev().chain(&ids).enumerate() {
        tag(&test, id, json!({ "n": round, "gone": if round % 7 == 0 { json!(1) } else { json!(null) } }))
            .await;
        if round % 20 == 0 {
            for line in watch.take().await.expect("not too slow") {
                match line {
                    Line::Row { step: Step::Leave, id, .. } => assert!(rows.remove(&id).is_some()),
                    Line::Row { step, id, row, .. } => {
                        assert_eq!(rows.insert(id, row).is_none(), step == Step::Enter);
                    }
                    Line::Ready { rows: count, .. } => {
                        counted += 1;
                        assert_eq!(count, rows.len() as u64);
                    }
                }
            }
        }
    }
    assert_eq!(counted, 1);
    let left = watch.take().await.expect("not too slow");
    for line in left {
        match line {
            Line::Row { step: Step::Leave, id, .. } => drop(rows.remove(&id)),
            Line::Row { id, row, .. } => drop(rows.insert(id, row)),
            Line::Ready { .. } => panic!("it was said already"),
        }
    }
    let text = "SELECT tags.n FROM devices WHERE NOT IS_DEFINED(tags.gone)";
    let page = test.hub.query(&test.owner(), text, Some(1000), None).await.expect("an answer");
    assert_eq!(rows.into_values().flatten().collect::<Vec<_>>(), page.values());
}

#[tokio::test]
async fn a_reader_who_is_too_slow_is_cut_off_and_nobody_else() {
    let test = TestHub::start().await;
    let (device, token) = test.register("d").await;
    let who = test.hub.authenticate_device(&device, Credential::Token(&token)).expect("its own token");
    let all = "SELECT deviceId, properties.reported.n FROM devices";
    let (mut slow, mut quick) = (watch(&test, all), watch(&test, all));
    told(&mut slow).await;
    told(&mut quick).await;
    for n in 0..=WATCH_QUEUE_STEPS_MAX {
        test.hub.twin_patch_reported(&who, &device, &patch(json!({ "n": n })), None).await.expect("reported");
        assert_eq!(told(&mut quick).await.len(), 1);
    }
    slow.ready().await;
    assert_eq!(slow.take().await, Err(Lagged));
    drop(slow);
    // What waited for him is given back: many others can wait together for as much again.
    let mut others: Vec<_> =
        (0..WATCH_BACKLOG_STEPS_MAX / WATCH_QUEUE_STEPS_MAX).map(|_| watch(&test, all)).collect();
    for other in &mut others {
        told(other).await;
    }
    for n in 0..WATCH_QUEUE_STEPS_MAX {
        test.hub.twin_patch_reported(&who, &device, &patch(json!({ "n": n })), None).await.expect("reported");
        told(&mut quick).await;
    }
    for other in &mut others {
        assert_eq!(told(other).await.len(), WATCH_QUEUE_STEPS_MAX);
    }
}

#[tokio::test]
async fn a_thousand_who_read_nothing_take_bounded_memory_and_stop_nobody() {
    let test = TestHub::start().await;
    let (device, token) = test.register("d").await;
    let who = test.hub.authenticate_device(&device, Credential::Token(&token)).expect("its own token");
    let mut idle: Vec<_> = (0..1000).map(|_| watch(&test, "SELECT * FROM devices")).collect();
    let mut reader = watch(&test, "SELECT * FROM devices");
    for watch in idle.iter_mut().chain([&mut reader]) {
        told(watch).await;
    }
    for n in 0..2 * WATCH_BACKLOG_STEPS_MAX / idle.len() {
        test.hub.twin_patch_reported(&who, &device, &patch(json!({ "n": n })), None).await.expect("reported");
        assert_eq!(told(&mut reader).await.len(), 1);
    }
    let (mut kept, mut cut) = (0, 0);
    for watch in &mut idle {
        loop {
            match watch.take().await {
                Ok(lines) if lines.is_empty() => break,
                Ok(lines) => kept += lines.len(),
                Err(Lagged) => {
                    cut += 1;
                    break;
                }
            }
        }
    }
    assert!(kept <= WATCH_BACKLOG_STEPS_MAX + idle.len() * WATCH_QUEUE_STEPS_SHARE, "{kept} steps waited");
    assert!(cut > 0, "all of them were told everything");
}

#[tokio::test]
async fn what_cannot_stand_is_refused_with_what_would_be_right() {
    let test = TestHub::start().await;
    let refuse = |text: &str, part: &str| match test.hub.query_watch(&test.owner(), text).map(drop) {
        Err(Error::Invalid(words)) => assert!(words.contains(part), "{text}: {words}"),
        other => panic!("{text}: {other:?}"),
    };
    refuse("SELECT", "The query is invalid");
    refuse("SELECT COUNT() FROM devices", "ask again from time to time");
    refuse("SELECT tags.a FROM devices GROUP BY tags.a", "GROUP BY");
    refuse("SELECT TOP 5 * FROM devices", "leave both out");
    refuse("SELECT * FROM devices ORDER BY deviceId", "leave both out");
    refuse("SELECT * FROM devices.jobs", "follow a job");
    refuse("SELECT * FROM devices.retired", "FROM devices or devices.modules");
    refuse("SELECT * FROM devices WHERE tags.a = 1 OR lastActivityTime > '2026'", "connectionState");
    refuse("EXPLAIN SELECT * FROM devices", "The query is invalid");
    let device = test.register("d").await;
    let who = test.hub.authenticate_device(&device.0, Credential::Token(&device.1)).expect("its own token");
    let denied = test.hub.query_watch(&who, "SELECT * FROM devices").map(drop);
    assert!(matches!(denied, Err(Error::Forbidden(_))), "{denied:?}");

    let mut standing: Vec<_> = (0..WATCHES_MAX).map(|_| watch(&test, "SELECT * FROM devices")).collect();
    let one_more = test.hub.query_watch(&test.owner(), "SELECT * FROM devices").map(drop);
    assert!(matches!(one_more, Err(Error::Throttled(_))), "{one_more:?}");
    // None of them reads; a change costs little all the same.
    let who = test.hub.authenticate_device(&device.0, Credential::Token(&device.1)).expect("its own token");
    for n in 0..20 {
        test.hub
            .twin_patch_reported(&who, &id("d"), &patch(json!({ "n": n })), None)
            .await
            .expect("reported");
    }
    standing.pop();
    watch(&test, "SELECT * FROM devices");
}
