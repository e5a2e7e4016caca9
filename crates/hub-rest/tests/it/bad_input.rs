//! What is wrong is refused with words that help, changes nothing, and disturbs nobody: bodies, sizes, texts, ids,
//! etags, versions. Every test compares all that back ends can change, as another client reads it, before and after.

use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use crate::support::{Reply, Server};

/// Longest JSON body, as `config` says.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest query, as S 7.1 says.
const QUERY_CHARS_MAX: usize = 8192;

/// A hub with device `d` and module `d/m`, both with tags and desired properties.
async fn populated() -> Server {
    let server = Server::start().await;
    server.test.register("d").await;
    server.test.register("d/m").await;
    for path in TWINS {
        server
            .send("patch", path, &json!({ "tags": { "t": 1 }, "properties": { "desired": { "p": 1 } } }))
            .await
            .ok();
    }
    server
}

const TWINS: [&str; 2] = ["/twins/d", "/twins/d/modules/m"];

/// Operations with a body that is an object, and a good one.
fn objects() -> Vec<(&'static str, &'static str, bool, Value)> {
    vec![
        ("put", "/devices/new", false, json!({})),
        ("put", "/devices/d/modules/new", false, json!({})),
        ("patch", "/twins/d", false, json!({ "tags": { "a": 2 } })),
        ("put", "/twins/d/modules/m", false, json!({ "tags": { "a": 2 } })),
        ("post", "/devices/query", false, json!({ "query": "SELECT * FROM devices" })),
        (
            "post",
            "/devices/keys/regenerate",
            false,
            json!({ "policyKey": "both", "devices": [{ "id": "d" }] }),
        ),
        ("post", "/twins/d/methods", true, json!({ "methodName": "m" })),
        ("post", "/twins/d/modules/m/methods", true, json!({ "methodName": "m" })),
        ("post", "/api/policies/device/rotate", false, json!({ "key": "both" })),
    ]
}

/// Operations with a body that is a list.
const LISTS: [(&str, &str); 2] = [("post", "/devices"), ("patch", "/digitaltwins/d")];

fn refusal(reply: &Reply, nested: bool, code: u32, name: &str) -> String {
    match nested {
        true => reply.nested_error(code, name),
        false => reply.error((code / 1000) as u16, name),
    }
}

fn deep(open: &str, inner: &str, close: &str) -> Vec<u8> {
    [open.repeat(10_000), inner.into(), close.repeat(10_000)].concat().into_bytes()
}

#[tokio::test]
async fn a_body_that_is_not_the_json_that_is_expected_is_refused() {
    let server = populated().await;
    let before = server.snapshot().await;
    let bad: Vec<(u32, &str, Vec<u8>)> = vec![
        (400_005, "ArgumentNull", b"".to_vec()),
        (400_005, "ArgumentNull", b" \r\n\t ".to_vec()),
        (400_006, "IotHubFormatError", b"null".to_vec()),
        (400_006, "IotHubFormatError", b"[]".to_vec()),
        (400_006, "IotHubFormatError", b"\"text\"".to_vec()),
        (400_006, "IotHubFormatError", b"{".to_vec()),
        (400_006, "IotHubFormatError", b"{}{}".to_vec()),
        (400_006, "IotHubFormatError", b"{\"deviceId\":NaN}".to_vec()),
        (400_006, "IotHubFormatError", b"{\"a\":\"\xff\xfe\"}".to_vec()),
        (400_006, "IotHubFormatError", b"{\"\xc0\xaf\":1}".to_vec()),
        (400_006, "IotHubFormatError", b"\xef\xbb\xbf{}".to_vec()),
        (400_006, "IotHubFormatError", deep("[", "", "]")),
    ];
    for (method, path, nested, _) in objects() {
        for (code, name, body) in &bad {
            let reply = server.send_raw(method, path, body.clone()).await;
            let words = refusal(&reply, nested, *code, name);
            assert!(words.contains("the body"), "{words}");
        }
    }
    for (method, path) in LISTS {
        for body in [&b""[..], b"null", b"{}", b"[", b"[1]", b"[null]", b"[\"\xff\"]", &deep("[", "", "]")] {
            let reply = server.send_raw(method, path, body.to_vec()).await;
            let name = if path == "/devices" { "IotHubFormatError" } else { "InvalidDigitalTwinJsonPatch" };
            assert!(reply.error(400, name).contains("the body"), "{}", reply.text());
        }
    }
    let tags = || deep("{\"tags\":", "1", "}");
    for (method, path, body) in [
        ("patch", "/twins/d", tags()),
        ("put", "/twins/d/modules/m", tags()),
        ("put", "/devices/new", [&b"{\"authentication\":"[..], &deep("[", "", "]"), b"}"].concat()),
        ("put", "/devices/new", [&b"{\"parentScopes\":"[..], &deep("[", "", "]"), b"}"].concat()),
        ("post", "/devices", [&b"[{\"id\":\"new\",\"tags\":"[..], &tags(), b"}]"].concat()),
        ("post", "/devices/query", [&b"{\"query\":"[..], &deep("[", "", "]"), b"}"].concat()),
    ] {
        server.send_raw(method, path, body).await.error(400, "IotHubFormatError");
    }
    // Members that nobody knows are passed over, however deep they are.
    let body = [&b"{\"query\":\"SELECT COUNT() AS n FROM devices\",\"x\":"[..], &tags(), b"}"].concat();
    assert_eq!(server.send_raw("post", "/devices/query", body).await.ok(), json!([{ "n": 1 }]));
    assert_eq!(server.snapshot().await, before);
}

#[tokio::test]
async fn a_body_may_have_its_limit_and_not_a_byte_more() {
    let server = populated().await;
    let before = server.snapshot().await;
    let padded = |body: &Value, bytes: usize| {
        let text = body.to_string();
        let padding = " ".repeat(bytes - text.len());
        text + &padding
    };
    for (method, path, _, body) in objects() {
        let reply = server.send_raw(method, path, padded(&body, BODY_BYTES_MAX + 1)).await;
        let words = reply.error(413, "GenericRequestEntityTooLarge");
        assert!(words.contains("4194304"), "{words}");
    }
    assert_eq!(server.snapshot().await, before);
    let query = json!({ "query": "SELECT deviceId FROM devices" });
    let fits = server.send_raw("post", "/devices/query", padded(&query, BODY_BYTES_MAX)).await;
    assert_eq!(fits.ok(), json!([{ "deviceId": "d" }]));
}

#[tokio::test]
async fn a_connection_answers_on_after_a_body_that_was_too_large() {
    let server = populated().await;
    let head = |method: &str, path: &str, rest: &str| {
        let owner = &server.owner;
        format!(
            "{method} {path}?api-version=2021-04-12 HTTP/1.1\r\nHost: localhost\r\nAuthorization: {owner}\r\n{rest}\r\n\r\n"
        )
    };
    let bytes = BODY_BYTES_MAX + 1_000_000;
    let large = head("POST", "/devices/query", &format!("Content-Length: {bytes}"));
    let next = head("GET", "/statistics/devices", "Connection: close");
    let sent = [large.into_bytes(), vec![b' '; bytes], next.into_bytes()].concat();
    let answers = server.exchange(&sent).await;
    let second = answers.split("HTTP/1.1 ").skip(1).collect::<Vec<_>>();
    assert!(
        matches!(second[..], [first, second] if first.starts_with("413 ") && second.starts_with("200 ")),
        "{answers}"
    );
    assert!(
        answers.ends_with(r#"{"totalDeviceCount":1,"enabledDeviceCount":1,"disabledDeviceCount":0}"#),
        "{answers}"
    );
}

#[tokio::test]
async fn what_a_content_type_says_does_not_matter_what_the_body_is_does() {
    let server = populated().await;
    let types = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "nonsense",
        "",
    ];
    for kind in types {
        let send = |body: &'static str| {
            Reply::of(server.request("post", "/devices/query").header("Content-Type", kind).body(body))
        };
        assert_eq!(
            send(r#"{"query":"SELECT COUNT() AS n FROM devices"}"#).await.ok(),
            json!([{ "n": 1 }]),
            "{kind}"
        );
        send("query=SELECT * FROM devices").await.error(400, "IotHubFormatError");
    }
}

#[tokio::test]
async fn a_query_that_is_too_large_too_deep_or_wrong_is_refused() {
    let server = populated().await;
    let before = server.snapshot().await;
    server.query(&"x".repeat(10_000_000)).await.error(413, "GenericRequestEntityTooLarge");
    let select = "SELECT * FROM devices WHERE ";
    let deep = |levels: usize| format!("{select}{}1 = 1{}", "(".repeat(levels), ")".repeat(levels));
    let cases = [
        ("x".repeat(1_000_000), "8192"),
        (format!("{select}{}", "a".repeat(QUERY_CHARS_MAX)), "8192"),
        (deep(10_000), "8192"),
        (deep(4_000), "64"),
        (format!("{select}{}true", "NOT ".repeat(2_000)), "64"),
        (format!("{select}{}1", "-".repeat(8_000)), ""),
        (String::new(), ""),
        ("SELECT".into(), ""),
        ("SELECT * FROM nowhere".into(), "nowhere"),
        (format!("{select}a = 'open"), ""),
        (format!("{select}a ="), ""),
        (format!("{select}NOSUCH(a)"), "NOSUCH"),
        ("DELETE FROM devices".into(), ""),
        ("SELECT * FROM devices; DROP TABLE devices".into(), ""),
        (format!("{select}a = '\u{0}'; x"), ""),
    ];
    for (text, part) in cases {
        let words = server.query(&text).await.error(400, "ArgumentInvalid");
        assert!(words.starts_with("The query is invalid: ") && words.contains(part), "{part}: {words}");
        assert!(words.len() < 1000, "an error does not echo what is endless: {}", words.len());
    }
    let condition = format!("{}true", "NOT ".repeat(QUERY_CHARS_MAX));
    let twin = json!({ "etag": "*", "tags": {} });
    let job = json!({ "type": "scheduleUpdateTwin", "queryCondition": condition, "updateTwin": twin });
    let words = server.send("put", "/jobs/v2/long", &job).await.error(412, "PreconditionFailed");
    assert!(words.contains("8192"), "{words}");
    server.send("post", "/devices/query", &json!({})).await.error(400, "ArgumentNull");
    server.send("post", "/devices/query", &json!({ "query": 5 })).await.error(400, "IotHubFormatError");
    for count in ["0", "-1", "x", "1.5", "99999999999999999999999"] {
        let request = server.request("post", "/devices/query").header("x-ms-max-item-count", count);
        let words = Reply::of(request.json(&json!({ "query": "SELECT * FROM devices" })))
            .await
            .error(400, "ArgumentInvalid");
        assert!(words.contains("x-ms-max-item-count") && words.contains(count), "{words}");
    }
    assert_eq!(server.snapshot().await, before);
}

#[tokio::test]
async fn a_continuation_token_that_the_hub_did_not_make_for_the_query_is_refused() {
    let server = populated().await;
    server.create("e").await;
    let page = |text: &'static str, token: HeaderValue| {
        let request = server.request("post", "/devices/query").header("x-ms-max-item-count", "1");
        Reply::of(request.header("x-ms-continuation", token).json(&json!({ "query": text })))
    };
    let text = |token: &str| HeaderValue::from_str(token).expect("text");
    let query = "SELECT * FROM devices";
    let first = page(query, text("")).await;
    let token = first.header("x-ms-continuation").expect("there are two devices").to_string();
    assert_eq!(page(query, text(&token)).await.ok()[0]["deviceId"], "e");
    for at in 0..token.len() {
        let mut other = token.clone().into_bytes();
        // Every bit of the last character but the two that base64 does not use.
        other[at] = if other[at] == b'w' { b'g' } else { b'w' };
        let other = String::from_utf8(other).expect("ASCII");
        let reply = page(query, text(&other)).await;
        assert!(reply.error(400, "ArgumentInvalid").contains("continuation token"), "{at}");
    }
    for wrong in ["x", "AAAA", "0", "e", &token[1..], &format!("{token}A"), &"A".repeat(8000)] {
        page(query, text(wrong)).await.error(400, "ArgumentInvalid");
    }
    page(query, HeaderValue::from_bytes(b"\xff\xfe").expect("bytes")).await.error(400, "ArgumentInvalid");
    page("SELECT * FROM devices WHERE 1 = 1", text(&token)).await.error(400, "ArgumentInvalid");
}

/// What twins may not hold (S 4.3), as a section's members, each with what the words must name.
fn forbidden() -> Vec<(Value, &'static str)> {
    let levels = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!({ "a": inner }));
    vec![
        (json!({ "a.b": 1 }), "'.'"),
        (json!({ "a$b": 1 }), "'$'"),
        (json!({ "a b": 1 }), "' '"),
        (json!({ "a\u{1}": 1 }), "control"),
        (json!({ "a\u{85}": 1 }), "control"),
        (json!({ "": 1 }), "empty"),
        (json!({ "o": { "b.c": 1 } }), "at 'o'"),
        (json!({ "k".repeat(1025): 1 }), "1024"),
        (json!({ "ü".repeat(513): 1 }), "1024"),
        (json!({ "s": "x".repeat(4097) }), "4096"),
        (json!({ "s": "ü".repeat(2049) }), "4096"),
        (json!({ "i": 4_503_599_627_370_496_i64 }), "4503599627370495"),
        (json!({ "i": -4_503_599_627_370_497_i64 }), "-4503599627370496"),
        (json!({ "i": u64::MAX }), "outside"),
        (json!({ "l": [1, null] }), "null"),
        (json!({ "l": [{ "a": null }] }), "null"),
        (levels(12), "10 levels"),
        (json!(5), "object"),
        (json!("text"), "object"),
        (json!([]), "object"),
        (json!(true), "object"),
    ]
}

#[tokio::test]
async fn a_twin_takes_nothing_that_is_beyond_a_limit() {
    let server = populated().await;
    let before = server.snapshot().await;
    let large = |bytes: usize| -> Value {
        let many: serde_json::Map<_, _> =
            (0..bytes / 1024).map(|n| (format!("{n:04}"), json!("x".repeat(1020)))).collect();
        Value::Object(many)
    };
    let refused = |reply: Reply, part: &str| {
        let words = reply.error(400, "ArgumentInvalid");
        assert!(words.contains(part), "{part}: {words}");
    };
    for path in TWINS {
        for method in ["patch", "put"] {
            for (section, part) in forbidden() {
                refused(server.send(method, path, &json!({ "tags": section })).await, part);
                refused(
                    server.send(method, path, &json!({ "properties": { "desired": section } })).await,
                    part,
                );
                // What is right beside it is not written either.
                let mixed = json!({ "tags": { "good": 1 }, "properties": { "desired": section } });
                refused(server.send(method, path, &mixed).await, part);
            }
        }
        assert_eq!(server.snapshot().await, before, "{path}");
        for (body, part) in [
            (json!({ "tags": large(9 * 1024) }), "8192"),
            (json!({ "properties": { "desired": large(33 * 1024) } }), "32768"),
        ] {
            let reply = server.send("patch", path, &body).await;
            assert!(reply.error(400, "ArgumentInvalid").contains(part), "{}", reply.text());
        }
        let reply = server.send("patch", path, &json!({ "properties": 5 })).await;
        reply.error(400, "IotHubFormatError");
        assert_eq!(server.snapshot().await, before, "{path}");
    }
}

#[tokio::test]
async fn a_twin_takes_everything_up_to_its_limits() {
    let server = populated().await;
    let levels = (0..11).fold(json!(1), |inner, _| json!({ "a": inner }));
    for section in [
        json!({ "k".repeat(1024): 1 }),
        json!({ "s": "ü".repeat(2048) }),
        json!({ "i": 4_503_599_627_370_495_i64, "j": -4_503_599_627_370_496_i64, "f": 1e300 }),
        json!({ "l": [1, { "a": [] }] }),
        levels,
    ] {
        let twin = server.send("put", "/twins/d", &json!({ "tags": section })).await.ok();
        assert_eq!(twin["tags"], section);
    }
}

#[tokio::test]
async fn merges_that_add_up_to_too_much_are_refused_whole() {
    let server = populated().await;
    let part = |n: usize| json!({ "tags": { format!("{n:04}"): "x".repeat(1020) } });
    for n in 0..7 {
        server.send("patch", "/twins/d", &part(n)).await.ok();
    }
    let before = server.snapshot().await;
    assert!(server.send("patch", "/twins/d", &part(7)).await.error(400, "ArgumentInvalid").contains("8192"));
    assert_eq!(server.snapshot().await, before);
}

#[tokio::test]
async fn ids_that_are_none_are_refused_everywhere() {
    let server = populated().await;
    let before = server.snapshot().await;
    let long = "x".repeat(129);
    for id in [
        long.as_str(),
        "a%20b",
        "a%2Fb",
        "%C3%BC",
        "a+b",
        "a%23b",
        "a%00b",
        "a%0Ab",
        "a%22b",
        "a%7Bb",
        "%FF",
        "a%C3",
        "a%5Cb",
    ] {
        let calls = [
            ("get", format!("/devices/{id}"), false),
            ("put", format!("/devices/{id}"), false),
            ("delete", format!("/devices/{id}"), false),
            ("get", format!("/devices/{id}/modules"), false),
            ("get", format!("/devices/d/modules/{id}"), false),
            ("put", format!("/devices/d/modules/{id}"), false),
            ("delete", format!("/devices/d/modules/{id}"), false),
            ("get", format!("/twins/{id}"), false),
            ("patch", format!("/twins/{id}"), false),
            ("put", format!("/twins/d/modules/{id}"), false),
            ("post", format!("/twins/{id}/methods"), true),
            ("post", format!("/twins/d/modules/{id}/methods"), true),
            ("get", format!("/digitaltwins/{id}"), false),
            ("get", format!("/api/events?device={id}"), false),
        ];
        for (method, path, nested) in calls {
            let reply = server.send(method, &path, &json!({ "methodName": "m" })).await;
            // A path that is no text is refused before any operation is reached.
            let nested = nested && !id.contains("%FF") && id != "a%C3";
            let words = refusal(&reply, nested, 400_004, "ArgumentInvalid");
            assert!(words.contains("id is not valid") || words.contains("UTF-8"), "{method} {path}: {words}");
        }
    }
    let other = server.send("put", "/devices/new", &json!({ "deviceId": "other" })).await;
    assert!(other.error(400, "ArgumentInvalid").contains("'other'"));
    let other = server.send("put", "/devices/d/modules/new", &json!({ "moduleId": "other" })).await;
    assert!(other.error(400, "ArgumentInvalid").contains("'other'"));
    server.get("/devices?top=0").await.error(400, "DeviceInvalidResultCount");
    server.get("/devices?top=many").await.error(400, "DeviceInvalidResultCount");
    server.get("/devices?top=1&top=2").await.error(400, "ArgumentInvalid");
    assert_eq!(server.snapshot().await, before);
}

#[tokio::test]
async fn a_path_is_taken_as_it_stands() {
    let server = populated().await;
    let before = server.snapshot().await;
    for (path, status) in [
        ("/devices/..", "404"),
        ("/devices/d/../d", "404"),
        ("/devices/%2e%2e", "404"),
        ("//devices/d", "404"),
        ("/devices//", "404"),
        ("/devices/d%2f..%2fd", "400"),
        ("/DEVICES/d", "404"),
    ] {
        let head = format!(
            "DELETE {path}?api-version=2021-04-12 HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nConnection: close\r\n\r\n",
            server.owner
        );
        let answer = server.exchange(head.as_bytes()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) || answer.starts_with("HTTP/1.1 405 "),
            "{path}: {answer}"
        );
    }
    assert_eq!(server.snapshot().await, before);
}

#[tokio::test]
async fn an_etag_that_is_not_the_present_one_stops_a_write() {
    let server = populated().await;
    let other = server.create("other").await["etag"].as_str().expect("an etag").to_string();
    let before = server.snapshot().await;
    let writes = [
        ("put", "/devices/d"),
        ("delete", "/devices/d"),
        ("put", "/devices/d/modules/m"),
        ("delete", "/devices/d/modules/m"),
        ("patch", "/twins/d"),
        ("put", "/twins/d/modules/m"),
        ("patch", "/digitaltwins/d"),
    ];
    for (method, path) in writes {
        let body = match method {
            _ if path.starts_with("/digitaltwins") => json!([{ "op": "add", "path": "/a", "value": 1 }]),
            _ => json!({ "tags": { "a": 2 } }),
        };
        for etag in [
            other.as_str(),
            "x",
            "\"x\"",
            "W/\"x\"",
            "\"\"",
            "\"*\" x",
            "**",
            "\"*, \"*\"",
            "0",
            &"e".repeat(8000),
        ] {
            let words = server.send_if(method, path, etag, &body).await.error(412, "PreconditionFailed");
            assert_eq!(words, "Precondition failed: Invalid ETag");
        }
        let bytes = HeaderValue::from_bytes(b"\"\xff\xfe\"").expect("bytes");
        let request = server.request(method, path).header("If-Match", bytes).json(&body);
        assert!(Reply::of(request).await.error(400, "ArgumentInvalid").contains("if-match"));
        let twice = server.request(method, path).header("If-Match", "*").header("If-Match", "x").json(&body);
        assert!(Reply::of(twice).await.error(400, "ArgumentInvalid").contains("if-match"));
    }
    assert_eq!(server.snapshot().await, before);
}

#[tokio::test]
async fn an_api_version_is_a_date() {
    let server = populated().await;
    let url = |query: &str| format!("https://localhost:{}/statistics/devices{query}", server.address.port());
    let get = |query: &str| Reply::of(server.other.get(url(query)).header("Authorization", &server.owner));
    for query in [
        "",
        "?",
        "?api-version=",
        "?api-version=latest",
        "?api-version=2021-4-12",
        "?api-version=2021-04-12x",
        "?api-version=2021-04-12-beta",
        "?api-version=20210412",
        "?api-version=2021-04-1%32",
        "?version=2021-04-12",
        "?xapi-version=2021-04-12",
    ] {
        let words = get(query).await.error(400, "InvalidProtocolVersion");
        assert!(words.contains("expected a date"), "{query}: {words}");
    }
    for version in ["2018-06-30", "2020-05-31-preview", "2021-04-12", "2030-01-01"] {
        get(&format!("?api-version={version}")).await.is(200);
        get(&format!("?top=1&api-version={version}&x=y")).await.is(200);
    }
}

#[tokio::test]
async fn what_is_not_http_ends_its_own_connection_only() {
    let server = populated().await;
    let before = server.snapshot().await;
    let open = "GET /statistics/devices?api-version=2021-04-12 HTTP/1.1\r\nHost: localhost\r\n";
    for bytes in [
        b"\0\0\0\0\0\0\0\0\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
        format!("{open}Content-Length: x\r\n\r\n").into_bytes(),
        format!("{open}Content-Length: -1\r\n\r\n").into_bytes(),
        format!("{open}Content-Length: 1\r\nContent-Length: 2\r\n\r\n").into_bytes(),
        format!("{open}Bad Header: 1\r\n\r\n").into_bytes(),
        format!("{open}Long: {}\r\n\r\n", "x".repeat(1_000_000)).into_bytes(),
        format!("{open}{}\r\n", "Many: 1\r\n".repeat(1_000)).into_bytes(),
        format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000)).into_bytes(),
    ] {
        let answer = server.exchange(&bytes).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(server.snapshot().await, before);
}
