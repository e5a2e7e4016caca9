//! Queries page by page: sizes, continuation, kinds of rows, aggregates, and that they see what was just written; the
//! children of a job, which are rows like any others.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Reply, Server};

/// Rows in a page if nobody names a size, and the most there are (S 7.1).
const PAGE_ROWS_DEFAULT: usize = 100;

/// A hub with this many devices, `d000` and on; each has its number, its parity and a module in its twin.
async fn with_devices(count: usize) -> Server {
    let server = Server::start().await;
    let numbers: Vec<usize> = (0..count).collect();
    for chunk in numbers.chunks(50) {
        let items = chunk.iter().flat_map(|n| {
            let id = format!("d{n:03}");
            let tags = json!({ "n": n, "parity": if n % 2 == 0 { "even" } else { "odd" } });
            [
                json!({ "id": id, "importMode": "create", "tags": tags }),
                json!({ "id": id, "moduleId": "m", "importMode": "createOrUpdate" }),
            ]
        });
        let (devices, modules): (Vec<_>, Vec<_>) = items.partition(|item| item.get("moduleId").is_none());
        server.send("post", "/devices", &json!(devices)).await.ok();
        server.send("post", "/devices", &json!(modules)).await.ok();
    }
    server
}

async fn page(server: &Server, query: &str, rows: &str, continuation: &str) -> Reply {
    let request = server.request("post", "/devices/query").json(&json!({ "query": query }));
    Reply::of(request.header("x-ms-max-item-count", rows).header("x-ms-continuation", continuation)).await
}

/// Every page of a query: its rows, and the size of each.
async fn pages(server: &Server, query: &str, rows: &str) -> (Vec<Value>, Vec<usize>) {
    let (mut all, mut sizes, mut token) = (Vec::new(), Vec::new(), String::new());
    loop {
        let page = page(server, query, rows, &token).await;
        let rows = page.ok();
        let rows = rows.as_array().expect("a bare array");
        sizes.push(rows.len());
        all.extend(rows.iter().cloned());
        match page.header("x-ms-continuation") {
            Some(next) => token = next.to_string(),
            None => return (all, sizes),
        }
    }
}

#[tokio::test]
async fn pages_have_the_size_that_was_asked_for_and_the_last_has_no_token() {
    let server = with_devices(120).await;
    let expected: Vec<Value> = (0..120).map(|n| json!({ "deviceId": format!("d{n:03}") })).collect();
    for (rows, sizes) in [
        ("50", vec![50, 50, 20]),
        ("40", vec![40, 40, 40]),
        ("119", vec![119, 1]),
        ("120", vec![120]),
        ("1000", vec![120]),
        ("18446744073709551615", vec![120]),
        ("", vec![PAGE_ROWS_DEFAULT, 20]),
    ] {
        let (all, got) = pages(&server, "SELECT deviceId FROM devices", rows).await;
        assert_eq!(got, sizes, "{rows}");
        assert_eq!(all, expected, "{rows}: every row once, in the order of ids");
    }
}

#[tokio::test]
async fn each_kind_of_query_says_what_its_rows_are() {
    let server = with_devices(3).await;
    for (query, kind, rows) in [
        ("SELECT * FROM devices", "Twin", 3),
        ("select * from DEVICES where tags.parity = 'even'", "Twin", 2),
        ("SELECT * FROM devices.modules", "Twin", 3),
        ("SELECT deviceId FROM devices", "Raw", 3),
        ("SELECT deviceId, moduleId FROM devices.modules", "Raw", 3),
        ("SELECT COUNT() AS n FROM devices", "Raw", 1),
        ("SELECT * FROM devices.jobs", "DeviceJob", 0),
        ("SELECT * FROM devices WHERE tags.parity = 'none'", "Twin", 0),
        ("SELECT * FROM devices WHERE deviceId IN ['d001', 'none']", "Twin", 1),
    ] {
        let reply = server.query(query).await;
        assert_eq!(reply.ok().as_array().map(Vec::len), Some(rows), "{query}");
        assert_eq!(reply.header("x-ms-item-type"), Some(kind), "{query}");
        assert_eq!(reply.header("x-ms-continuation"), None, "{query}");
        assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
    }
    let twin = server.get("/twins/d001").await.ok();
    assert_eq!(server.query("SELECT * FROM devices WHERE tags.n = 1").await.ok(), json!([twin]));
    let module = server.get("/twins/d001/modules/m").await.ok();
    let found = server.query("SELECT * FROM devices.modules WHERE deviceId = 'd001'").await.ok();
    assert_eq!(found, json!([module]));
}

#[tokio::test]
async fn projections_and_aggregates_give_what_they_name() {
    let server = with_devices(5).await;
    for (query, rows) in [
        ("SELECT tags.n AS number FROM devices WHERE tags.n >= 3", json!([{ "number": 3 }, { "number": 4 }])),
        ("SELECT deviceId, tags.none FROM devices WHERE tags.n = 0", json!([{ "deviceId": "d000" }])),
        (
            "SELECT COUNT() AS c, SUM(tags.n) AS s, AVG(tags.n) AS a, MIN(tags.n) AS l, MAX(tags.n) AS h FROM devices",
            json!([{ "c": 5, "s": 10, "a": 2, "l": 0, "h": 4 }]),
        ),
        ("SELECT COUNT() AS c FROM devices WHERE tags.n > 100", json!([{ "c": 0 }])),
        ("SELECT TOP 2 deviceId FROM devices", json!([{ "deviceId": "d000" }, { "deviceId": "d001" }])),
    ] {
        assert_eq!(server.query(query).await.ok(), rows, "{query}");
    }
    let groups =
        server.query("SELECT tags.parity, COUNT() AS c FROM devices GROUP BY tags.parity").await.ok();
    let groups: BTreeSet<_> = groups.as_array().expect("rows").iter().map(Value::to_string).collect();
    let expected = [json!({ "parity": "even", "c": 3 }), json!({ "parity": "odd", "c": 2 })];
    assert_eq!(groups, expected.iter().map(Value::to_string).collect());
    // TOP is for all pages together.
    let (all, sizes) = pages(&server, "SELECT TOP 3 * FROM devices", "2").await;
    assert_eq!((all.len(), sizes), (3, vec![2, 1]));
    let (all, sizes) = pages(&server, "SELECT tags.n, COUNT() AS c FROM devices GROUP BY tags.n", "2").await;
    assert_eq!((all.len(), sizes), (5, vec![2, 2, 1]), "groups come in pages too");
}

#[tokio::test]
async fn a_query_sees_what_was_written_before_it() {
    let server = Server::start().await;
    let count = || async {
        server.query("SELECT COUNT() AS n FROM devices WHERE tags.on = true").await.ok()[0]["n"].clone()
    };
    for n in 0..20 {
        let path = format!("/twins/d{n}");
        server.create(&format!("d{n}")).await;
        server.send("patch", &path, &json!({ "tags": { "on": true } })).await.ok();
        assert_eq!(count().await, n + 1);
    }
    server.send("patch", "/twins/d0", &json!({ "tags": { "on": null } })).await.ok();
    assert_eq!(count().await, 19);
    server.delete("/devices/d1").await.is(204);
    assert_eq!(count().await, 18);
}

#[tokio::test]
async fn what_comes_and_goes_between_pages_neither_doubles_nor_hides_the_rest() {
    let server = with_devices(30).await;
    let query = "SELECT deviceId FROM devices";
    let first = page(&server, query, "10", "").await;
    let token = first.header("x-ms-continuation").expect("more").to_string();
    // The last row of the first page, one of the next page, and two new ones: before and after the place.
    for id in ["d009", "d015"] {
        server.delete(&format!("/devices/{id}")).await.is(204);
    }
    for id in ["a", "d020x"] {
        server.create(id).await;
    }
    let second = page(&server, query, "100", &token).await;
    assert_eq!(second.header("x-ms-continuation"), None);
    let ids: Vec<_> =
        second.ok().as_array().expect("rows").iter().map(|row| row["deviceId"].clone()).collect();
    let mut expected: Vec<String> = (10..30).filter(|n| *n != 15).map(|n| format!("d{n:03}")).collect();
    expected.push("d020x".into());
    expected.sort();
    assert_eq!(json!(ids), json!(expected));
    // A token may be used again, and by another policy that may query.
    let again = page(&server, query, "100", &token).await;
    assert_eq!(again.ok(), second.ok());
}

#[tokio::test]
async fn the_json_query_of_the_first_edition_is_answered_like_a_text() {
    let server = with_devices(5).await;
    let ask = |body: Value| {
        let server = &server;
        async move { server.send("post", "/devices/query", &body).await }
    };
    let even = json!({
        "type": "comparison", "property": { "name": "parity", "type": "service" },
        "comparisonOperator": "eq", "value": "even"
    });
    let found = ask(json!({ "filter": even, "project": null, "aggregate": null, "sort": null })).await;
    let same = server.query("SELECT * FROM devices WHERE tags.parity = 'even'").await;
    assert_eq!((found.ok(), found.header("x-ms-item-type")), (same.ok(), Some("Twin")));

    let sums = ask(json!({
        "aggregate": {
            "keys": [{ "name": "parity", "type": "service" }],
            "properties": [
                { "operator": "sum", "property": { "name": "n", "type": "service" }, "columnName": "total" },
                { "operator": "count", "columnName": "devices" },
            ]
        },
        "sort": { "property": { "name": "total", "type": "aggregated" }, "order": "desc" }
    }))
    .await;
    let expected = json!([
        { "parity": "even", "total": 6, "devices": 3 },
        { "parity": "odd", "total": 4, "devices": 2 },
    ]);
    assert_eq!((sums.ok(), sums.header("x-ms-item-type")), (expected, Some("Raw")));

    // Tags in the body, or as clients of that time send them.
    server.send("patch", "/twins/d003", &json!({ "tags": { "bacon": true } })).await.ok();
    let tagged = json!([server.get("/twins/d003").await.ok()]);
    assert_eq!(ask(json!(["bacon", "parity"])).await.ok(), tagged);
    assert_eq!(ask(json!(["bacon", "eggs"])).await.ok(), json!([]));
    let url = "/devices/query?tags=bacon%2Cn&top=10";
    assert_eq!(server.send_raw("post", url, Vec::new()).await.ok(), tagged);

    // Pages go on behind the same query, however it is written down.
    let page = |token: String| {
        let project = json!({ "properties": [{ "type": "default", "name": "deviceId" }] });
        let request = server.request("post", "/devices/query").json(&json!({ "project": project }));
        Reply::of(request.header("x-ms-max-item-count", "3").header("x-ms-continuation", token))
    };
    let first = page(String::new()).await;
    assert_eq!(first.ok().as_array().map(Vec::len), Some(3));
    let rest = page(first.header("x-ms-continuation").expect("more").to_owned()).await;
    assert_eq!(rest.ok(), json!([{ "deviceId": "d003" }, { "deviceId": "d004" }]));
}

#[tokio::test]
async fn a_json_query_that_is_wrong_is_refused_with_the_place() {
    let server = Server::start().await;
    for (body, words) in [
        (json!({ "filter": { "type": "comparison" } }), "at 'filter': has no 'property'"),
        (json!({ "filtre": {} }), "unknown member 'filtre'"),
        (json!({ "query": "SELECT * FROM devices", "filter": {} }), "'query' stands alone"),
        (json!(["a..b"]), "at '[0]': is \"a..b\""),
    ] {
        let said = server.send("post", "/devices/query", &body).await.error(400, "ArgumentInvalid");
        assert!(said.contains(words), "{body}: {said}");
    }
    for body in [json!([]), json!([5])] {
        server.send("post", "/devices/query", &body).await.error(400, "IotHubFormatError");
    }
    for body in [json!({ "query": null }), json!({})] {
        server.send("post", "/devices/query", &body).await.error(400, "ArgumentNull");
    }
    let both =
        server.send("post", "/devices/query?tags=a", &json!({ "query": "SELECT * FROM devices" })).await;
    assert!(both.error(400, "ArgumentInvalid").contains("two queries"));
}

#[tokio::test]
async fn a_job_lists_its_children_and_a_child_tells_its_parent() {
    let server = with_devices(5).await;
    let job = json!({
        "type": "scheduleUpdateTwin", "queryCondition": "tags.parity = 'even'",
        "updateTwin": { "etag": "*", "tags": { "seen": true } }, "rollout": { "waves": [{ "rest": true }] },
        "gates": { "notInUse": {}, "override": { "reason": "a leak" } },
    });
    server.send("put", "/jobs/v2/parent", &job).await.ok();
    while server.get("/jobs/v2/parent").await.ok()["endTime"].is_null() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let list = |rest: &str, rows: &str, token: &str| {
        let request = server.request("get", &format!("/api/jobs/parent/devices{rest}"));
        Reply::of(request.header("x-ms-max-item-count", rows).header("x-ms-continuation", token))
    };
    let ids = |reply: &Reply| -> Vec<Value> {
        reply.ok().as_array().expect("rows").iter().map(|row| row["deviceId"].clone()).collect()
    };
    let first = list("", "2", "").await;
    assert_eq!(
        (ids(&first), first.header("x-ms-item-type")),
        (vec![json!("d000"), json!("d002")], Some("DeviceJob"))
    );
    let rest = list("", "2", first.header("x-ms-continuation").expect("more")).await;
    assert_eq!((ids(&rest), rest.header("x-ms-continuation")), (vec![json!("d004")], None));
    assert_eq!(ids(&list("?status=completed", "", "").await).len(), 3);
    assert_eq!(ids(&list("?status=failed", "", "").await).len(), 0);
    let words = list("?status=lost", "", "").await.error(400, "ArgumentInvalid");
    assert!(words.contains("'lost' is not known; there are pending, running"), "{words}");

    let child = server.get("/api/jobs/parent/devices/d002").await.ok();
    assert_eq!(child["target"], first.ok()[1]);
    let parent = server.get("/jobs/v2/parent").await.ok();
    assert_eq!(child["parent"], parent);
    let told = json!({ "by": parent["askedBy"], "reason": "a leak", "time": parent["createdTime"] });
    assert_eq!(parent["gatesOverride"], told);
    let rollout = server.get("/api/jobs/parent/rollout").await.ok();
    assert_eq!((&rollout, &rollout["phase"]), (&parent["rolloutState"], &json!("done")));
    assert!(rollout["forecast"]["expectedEndTime"].is_string(), "{rollout}");

    for (body, status, word) in [
        (json!({"action": "overrideGates"}), 400, "overrideGates.reason"),
        (json!({"action": "overrideGates", "reason": "x".repeat(600)}), 400, "1 to 512 characters"),
        (json!({"action": "overrideGates", "reason": "late"}), 409, "is over"),
        (json!({"action": "ignoreGates"}), 400, "rollBack and overrideGates"),
    ] {
        let reply = server.send("post", "/api/jobs/parent/rollout", &body).await;
        let words = reply.error(status, if status == 409 { "GenericConflict" } else { "ArgumentInvalid" });
        assert!(words.contains(word), "{words}");
    }

    for path in ["/devices/d001", "/devices/d002/modules/m", "/devices/none"] {
        let path = format!("/api/jobs/parent{path}");
        assert!(server.get(&path).await.error(404, "GenericNotFound").contains("has no target"), "{path}");
    }
    for path in ["/devices", "/devices/d001", "/rollout"] {
        server.get(&format!("/api/jobs/none{path}")).await.error(404, "JobNotFound");
    }
}
