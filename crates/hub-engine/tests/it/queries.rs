//! Queries through the engine: pages, tokens, order, groups.

use hub_domain::query::ItemType;
use hub_domain::twin::WriteMode;
use hub_domain::version::Precondition;
use hub_engine::Error;
use hub_testkit::TestHub;
use serde_json::{Value, json};

use crate::{id, tags};

async fn fleet(count: usize) -> TestHub {
    let test = TestHub::start().await;
    for n in 0..count {
        let name = format!("d{n:03}");
        test.register(&name).await;
        let site = ["a", "b", "c"][n % 3];
        let update = tags(json!({"n": n, "site": site}));
        test.hub
            .twin_update(&test.owner(), &id(&name), &update, WriteMode::Patch, &Precondition::None)
            .await
            .expect("tagged");
    }
    test
}

async fn all_pages(test: &TestHub, query: &str, page: usize) -> Vec<Vec<Value>> {
    let (mut pages, mut token) = (Vec::new(), None);
    loop {
        let answer =
            test.hub.query(&test.owner(), query, Some(page), token.as_deref()).await.expect("a page");
        pages.push(answer.values());
        token = answer.continuation;
        if token.is_none() {
            return pages;
        }
    }
}

#[tokio::test]
async fn pages_cover_everything_once_and_none_is_empty() {
    let test = fleet(30).await;
    let check = |query: &'static str, page, sizes: &'static [usize]| {
        let test = &test;
        async move {
            let pages = all_pages(test, query, page).await;
            assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), sizes, "{query}");
            let mut ids: Vec<_> = pages.concat().iter().map(|row| row["deviceId"].to_string()).collect();
            let total = ids.len();
            ids.dedup();
            assert_eq!(ids.len(), total, "{query}");
        }
    };
    check("SELECT * FROM devices", 12, &[12, 12, 6]).await;
    check("SELECT * FROM devices", 10, &[10, 10, 10]).await;
    check("SELECT deviceId FROM devices WHERE tags.site = 'a'", 4, &[4, 4, 2]).await;
    check("SELECT TOP 7 deviceId FROM devices", 4, &[4, 3]).await;
    check("SELECT TOP 8 deviceId FROM devices", 4, &[4, 4]).await;
    check("SELECT deviceId FROM devices ORDER BY tags.n DESC", 20, &[20, 10]).await;
    check("SELECT * FROM devices WHERE tags.site = 'none'", 4, &[0]).await;
    check("SELECT * FROM devices.jobs", 4, &[0]).await;
    check("SELECT * FROM devices WHERE deviceId IN ['d001', 'd002', 'none', 'd029']", 2, &[2, 1]).await;
    check("SELECT * FROM devices WHERE deviceId = 'd001' AND tags.site = 'a'", 2, &[0]).await;
}

#[tokio::test]
async fn order_groups_and_item_types() {
    let test = fleet(9).await;
    let rows = |query: &'static str| {
        let test = &test;
        async move { all_pages(test, query, 100).await.concat() }
    };
    let ordered = rows("SELECT TOP 2 deviceId FROM devices ORDER BY tags.n DESC").await;
    assert_eq!(ordered, [json!({"deviceId": "d008"}), json!({"deviceId": "d007"})]);
    let grouped = rows("SELECT tags.site AS site, COUNT() AS n FROM devices GROUP BY tags.site").await;
    assert_eq!(
        grouped,
        [json!({"site": "a", "n": 3}), json!({"site": "b", "n": 3}), json!({"site": "c", "n": 3})]
    );
    let page = |query: &'static str| {
        let test = &test;
        async move { test.hub.query(&test.owner(), query, None, None).await.expect("a page").item_type }
    };
    assert_eq!(page("SELECT * FROM devices").await, ItemType::Twin);
    assert_eq!(page("SELECT deviceId FROM devices").await, ItemType::Raw);
    assert_eq!(page("SELECT * FROM devices.jobs").await, ItemType::DeviceJob);
}

#[tokio::test]
async fn tokens_cannot_be_made_up_or_used_for_another_query() {
    let test = fleet(5).await;
    let owner = test.owner();
    let query = "SELECT * FROM devices";
    let token =
        test.hub.query(&owner, query, Some(2), None).await.expect("a page").continuation.expect("more rows");
    let second = test.hub.query(&owner, query, Some(2), Some(&token)).await.expect("the next page");
    assert_eq!(second.values()[0]["deviceId"], json!("d002"));
    let mut bytes = token.clone().into_bytes();
    bytes[25] = if bytes[25] == b'A' { b'B' } else { b'A' };
    let tampered = String::from_utf8(bytes).expect("text");
    for (query, token) in
        [(query, tampered.as_str()), (query, ""), (query, "🦀"), ("SELECT deviceId FROM devices", &token)]
    {
        assert_eq!(
            test.hub.query(&owner, query, Some(2), Some(token)).await,
            Err(Error::InvalidContinuation),
            "{token}"
        );
    }
    let invalid =
        test.hub.query(&owner, "SELEC * FROM devices", None, None).await.expect_err("a typing error");
    assert!(invalid.to_string().starts_with("The query is invalid: Line 1:"), "{invalid}");
}

#[tokio::test]
async fn a_page_follows_the_last_id_while_devices_come_and_go() {
    let test = fleet(6).await;
    let owner = test.owner();
    let query = "SELECT deviceId FROM devices";
    let first = test.hub.query(&owner, query, Some(3), None).await.expect("a page");
    test.hub.identity_delete(&owner, &id("d002"), &Precondition::None).await.expect("deleted");
    test.register("d000a").await;
    let second = test.hub.query(&owner, query, Some(3), first.continuation.as_deref()).await.expect("a page");
    let names: Vec<_> =
        second.values().into_iter().map(|row| row["deviceId"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(names, ["d003", "d004", "d005"]);
}

#[tokio::test]
async fn explain_tells_how_the_page_came_about() {
    let test = fleet(9).await;
    let explain = |query: &'static str| {
        let test = &test;
        async move {
            let page = test.hub.query(&test.owner(), query, Some(2), None).await.expect("explained");
            assert_eq!((page.item_type, page.rows.len(), &page.continuation), (ItemType::Raw, 1, &None));
            page.values().remove(0)
        }
    };
    let text = "explain SELECT * FROM devices WHERE tags.site = 'a' AND NOT (tags.n = version OR etag = 'x')";
    let row = explain(text).await;
    assert_eq!(row["query"], text["explain ".len()..]);
    // What is cheaper comes first.
    let any = json!([{"term": "etag = 'x'", "by": "twins"}, {"term": "tags.n = version", "by": "twins"}]);
    assert_eq!(
        row["plan"],
        json!({"all": [{"term": "tags.site = 'a'", "by": "columns"}, {"not": {"any": any}}]})
    );
    assert_eq!((&row["from"], &row["rows"], &row["chunks"]), (&json!("columns"), &json!(2), &json!(1)));
    assert_eq!((&row["rowsLookedAt"], &row["rowsEvaluated"]), (&json!(9), &json!(3)));
    let row = explain("EXPLAIN SELECT COUNT() FROM devices WHERE tags.site = 'nowhere'").await;
    assert_eq!(
        (&row["chunksSkipped"], &row["rowsEvaluated"], &row["rows"]),
        (&json!(1), &json!(0), &json!(1))
    );
    let row = explain("EXPLAIN SELECT * FROM devices WHERE tags.site = tags.n").await;
    assert_eq!(row["plan"]["by"], "rows");
    assert_eq!((&row["rowsEvaluated"], &row["rowsFromTwins"]), (&json!(9), &json!(0)));
    assert_eq!(
        explain("EXPLAIN SELECT * FROM devices WHERE deviceId = 'd001'").await["from"],
        "named devices"
    );
    assert_eq!(explain("EXPLAIN SELECT * FROM devices.jobs").await["from"], "job records");
    let error = test.hub.query(&test.owner(), "EXPLAIN SELECT ?", None, None).await;
    let Err(Error::Invalid(message)) = error else { panic!("{error:?}") };
    assert!(message.contains("Line 1:16"), "{message}");
    assert!(test.hub.query(&test.owner(), "EXPLAINSELECT * FROM devices", None, None).await.is_err());
}

#[tokio::test]
async fn the_status_tells_what_the_index_takes() {
    let test = fleet(9).await;
    let index = test.hub.status(&test.owner()).expect("a status").index;
    assert_eq!((index.paths_not_indexed, index.twins_marked), (0, 0));
    let site = index.paths.iter().find(|path| path.path == "tags.site").expect("tags.site is indexed");
    assert!(site.rows == 9 && site.bytes > 0 && site.is_indexed && index.bytes > site.bytes, "{index:?}");
}
