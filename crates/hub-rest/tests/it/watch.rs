//! Queries that stand, as a client reads them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Event, Events, Reply, Server, WAIT};

async fn open(server: &Server, query: &str) -> Events {
    Events::of(server.request("get", "/api/queries/watch").query(&[("query", query)])).await
}

async fn tag(server: &Server, id: &str, tags: Value) {
    server.send("patch", &format!("/twins/{id}"), &json!({ "tags": tags })).await.ok();
}

fn commit(event: &Event) -> u64 {
    event.id.split_once('.').and_then(|(commit, _)| commit.parse().ok()).expect("a position")
}

#[tokio::test]
async fn a_query_is_told_its_rows_and_then_what_becomes_of_them() {
    let server = Server::start().await;
    for id in ["a", "b", "c"] {
        server.create(id).await;
    }
    tag(&server, "a", json!({ "site": "x" })).await;
    let mut events =
        open(&server, "SELECT tags.site, tags.level AS l FROM devices WHERE tags.site IN ['x', 'y']").await;
    let mut all = events.take(2).await;
    tag(&server, "b", json!({ "site": "x", "level": 1 })).await;
    tag(&server, "c", json!({ "site": "z" })).await;
    tag(&server, "b", json!({ "unseen": 1 })).await;
    tag(&server, "b", json!({ "level": 2 })).await;
    tag(&server, "a", json!({ "site": "z" })).await;
    server.delete("/devices/b").await.is(204);
    all.extend(events.take(4).await);
    let told: Vec<_> = all.iter().map(|event| (event.kind.as_str(), event.data.clone())).collect();
    let expected = [
        ("enter", json!({ "deviceId": "a", "row": { "site": "x" } })),
        ("ready", json!({ "rows": 1 })),
        ("enter", json!({ "deviceId": "b", "row": { "site": "x", "l": 1 } })),
        ("change", json!({ "deviceId": "b", "row": { "site": "x", "l": 2 } })),
        ("leave", json!({ "deviceId": "a" })),
        ("leave", json!({ "deviceId": "b" })),
    ];
    assert_eq!(told, expected);
    assert!(all.is_sorted_by_key(commit), "{all:?}");
    // A position is one of the event log: behind it comes what the query was told next.
    let mut log = Events::open(&server, &format!("?source=twin&after={}", all[1].id), None).await;
    let next = log.next().await.expect("an event");
    assert_eq!((&next.data["deviceId"], commit(&next)), (&json!("b"), commit(&all[2])));
}

#[tokio::test]
async fn retired_devices_leave_and_modules_are_told_by_their_names() {
    let server = Server::start().await;
    server.create("a").await;
    server.send("put", "/devices/a/modules/m", &json!({ "deviceId": "a", "moduleId": "m" })).await.is(201);
    let mut devices = open(&server, "SELECT deviceId FROM devices").await;
    let mut modules = open(&server, "SELECT status FROM devices.modules").await;
    devices.take(2).await;
    let first = modules.take(2).await.remove(0);
    assert_eq!(first.data, json!({ "deviceId": "a", "moduleId": "m", "row": { "status": "enabled" } }));
    server.send("post", "/api/devices/a/retire", &json!({})).await.ok();
    for (events, expected) in [
        (&mut devices, json!({ "deviceId": "a" })),
        (&mut modules, json!({ "deviceId": "a", "moduleId": "m" })),
    ] {
        let event = events.next().await.expect("an event");
        assert_eq!((event.kind.as_str(), event.data), ("leave", expected));
    }
    server.send("post", "/api/retired/a/restore", &json!({})).await.ok();
    assert_eq!(devices.next().await.expect("an event").kind, "enter");
}

#[tokio::test]
async fn a_whole_fleet_is_followed_while_it_changes() {
    let server = Server::start().await;
    for number in 0..150 {
        server.create(&format!("d{number:03}")).await;
    }
    let mut events = open(&server, "SELECT * FROM devices WHERE NOT IS_DEFINED(tags.gone)").await;
    let writer = async {
        for number in (0..150).rev().step_by(3) {
            let gone = if number % 2 == 0 { json!(true) } else { json!(null) };
            tag(&server, &format!("d{number:03}"), json!({ "n": number, "gone": gone })).await;
        }
        server.create("last").await;
    };
    let reader = async {
        let mut rows = BTreeMap::new();
        loop {
            let event = events.next().await.expect("an event");
            let id = event.data["deviceId"].as_str().map(String::from);
            match (event.kind.as_str(), id) {
                ("ready", _) => assert_eq!(event.data["rows"], json!(rows.len())),
                ("leave", Some(id)) => assert!(rows.remove(&id).is_some(), "{id} was not there"),
                (kind, Some(id)) => {
                    let is_new = rows.insert(id.clone(), event.data["row"].clone()).is_none();
                    assert_eq!(is_new, kind == "enter", "{id}");
                    if id == "last" {
                        return rows;
                    }
                }
                _ => panic!("{event:?}"),
            }
        }
    };
    let ((), rows) = tokio::join!(writer, reader);
    let request = server.request("post", "/devices/query").header("x-ms-max-item-count", "1000");
    let request = request.json(&json!({ "query": "SELECT * FROM devices WHERE NOT IS_DEFINED(tags.gone)" }));
    assert_eq!(Reply::of(request).await.ok(), Value::Array(rows.into_values().collect()));
}

#[tokio::test]
async fn a_watch_that_is_not_right_is_refused() {
    let server = Server::start().await;
    let watch =
        |query: &str| Reply::of(server.request("get", "/api/queries/watch").query(&[("query", query)]));
    for (query, part) in [
        ("", "Expected SELECT"),
        ("SELECT * FROM", "Line 1:14"),
        ("SELECT COUNT() FROM devices", "aggregate"),
        ("SELECT * FROM devices.jobs", "follow a job"),
        ("SELECT TOP 1 * FROM devices", "TOP"),
        (&format!("SELECT * FROM devices WHERE tags.a = '{}'", "x".repeat(8200)), "8192"),
    ] {
        let words = watch(query).await.error(400, "ArgumentInvalid");
        assert!(words.contains(part), "{query}: {words}");
    }
    server.get("/api/queries/watch").await.error(400, "ArgumentNull");
    Reply::of(server.anonymous("get", "/api/queries/watch?query=SELECT%20*%20FROM%20devices")).await.is(401);
    let request = server.anonymous("get", "/api/queries/watch").query(&[("query", "SELECT * FROM devices")]);
    let read = server.test.policy_token("registryRead");
    Reply::of(request.header("Authorization", read)).await.is(401);
    server.send("post", "/api/queries/watch", &json!({})).await.is(405);
}

#[tokio::test]
async fn a_watch_ends_with_words_when_the_hub_stops() {
    let server = Server::start().await;
    let mut events = open(&server, "SELECT * FROM devices").await;
    assert_eq!(events.next().await.expect("an event").kind, "ready");
    let (stopped, end) = tokio::join!(server.test.hub.shutdown(WAIT), events.next());
    let end = end.expect("an end");
    assert_eq!((end.kind.as_str(), &end.data["reason"]), ("end", &json!("the hub shuts down")));
    assert_eq!(events.next().await, None);
    assert!(stopped, "nothing was left running");
}
