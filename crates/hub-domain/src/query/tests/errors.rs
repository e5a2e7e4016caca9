//! Texts that are no queries, and what the error says: always where, and what would be right.

use std::time::{Duration, Instant};

use serde_json::json;

use super::super::{Condition, Document, QUERY_NESTING_LEVELS_MAX, Query};

fn error(text: &str) -> String {
    Query::parse(text).expect_err(text).to_string()
}

#[test]
fn errors_say_where_and_what_would_be_right() {
    let check = |text: &str, start: &str, hint: &str| {
        let error = error(text);
        assert!(error.starts_with(start), "{text}: {error}");
        assert!(error.contains(hint), "{text}: {error}");
    };
    check("", "Line 1:1 Expected SELECT, found the end of the text", "");
    check("tags.a = 1", "Line 1:1 Expected SELECT, found 'tags'", "");
    check("SELECT * FROM devices ?", "Line 1:23 Unexpected character at input '?'", "");
    check(
        "SELECT *\nFROM  c",
        "Line 2:7 Unknown source 'c'",
        "use devices, devices.modules, devices.jobs or devices.retired",
    );
    check("SELECT * FROM devices.things", "Line 1:15 Unknown source", "devices.modules");
    check("SELECT FROM devices", "Line 1:8 Expected *, a property or an aggregate", "");
    check("SELECT * devices", "Line 1:10 Expected ',', AS or FROM, found 'devices'", "");
    check("SELECT * FROM devices WHERE", "Line 1:28 Expected a value", "found the end");
    check("SELECT * FROM devices WHERE 'ä' = ;", "Line 1:35 Unexpected character", "without a semicolon");
    check("SELECT * FROM devices WHERE a == 1", "Line 1:32 Expected a value", "single =");
    check("SELECT * FROM devices WHERE a = 1 && b = 2", "Line 1:35 ", "use AND");
    check("SELECT * FROM devices WHERE a = 1 || b = 2", "Line 1:35 ", "use OR");
    check("SELECT * FROM devices WHERE (a = 1", "Line 1:35 Expected an operator or ')'", "");
    check("SELECT * FROM devices WHERE a = 1)", "Line 1:34 Expected an operator", "");
    check("SELECT * FROM devices WHERE id IN ('a')", "Line 1:35 Expected a list", "IN ['a', 'b']");
    check(
        "SELECT * FROM devices WHERE 'a' IN tags.x",
        "Line 1:36 Expected a list",
        "ARRAY_CONTAINS(path, value)",
    );
    check("SELECT * FROM devices WHERE id NOT IN ['a']", "Line 1:32 ", "NIN");
    check("SELECT * FROM devices WHERE id IN ['a' 'b']", "Line 1:40 Expected ',' or ']'", "");
    check("SELECT * FROM devices WHERE id IN [tags.x]", "Line 1:36 Expected a constant", "");
    check(
        "SELECT * FROM devices WHERE id IN [undefined]",
        "Line 1:36 undefined cannot be an element",
        "leave it out",
    );
    check("SELECT * FROM devices WHERE id LIKE 'a%'", "Line 1:32 ", "STARTSWITH");
    check("SELECT * FROM devices WHERE a BETWEEN 1 AND 2", "Line 1:31 ", ">= low");
    check("SELECT * FROM devices WHERE a IS NULL", "Line 1:31 ", "IS_DEFINED");
    check("SELECT * FROM devices WHERE a = b = c", "Line 1:35 Comparisons cannot be chained", "parentheses");
    check("SELECT * FROM devices WHERE tags.my-key = 1", "Line 1:36 A name with '-'", "tags.[[my-key]]");
    check("SELECT tags.my-key FROM devices", "Line 1:15 Expected", "[[my-key]]");
    check("SELECT * FROM devices WHERE tags.1a = 1", "Line 1:34 ", "tags.[[1a]]");
    check("SELECT * FROM devices WHERE tags. = 1", "Line 1:35 Expected a name", "[[my name]]");
    check("SELECT * FROM devices WHERE tags.[[x = 1", "Line 1:34 This name has no end", "]]");
    check("SELECT * FROM devices WHERE tags.[[]] = 1", "Line 1:34 ", "must not be empty");
    check("SELECT * FROM devices WHERE a = 'x", "Line 1:33 This string has no end", "close it with '");
    check("SELECT * FROM devices WHERE a = 'C:\\x'", "Line 1:36 Unknown escape", "\\\\");
    check("SELECT * FROM devices WHERE a = '\\uD83D'", "Line 1:34 ", "a pair");
    check("SELECT * FROM devices /* x", "Line 1:23 This comment has no end", "*/");
    check("SELECT * FROM devices WHERE a = 1e999", "Line 1:33 '1e999' is not a number in range", "2e3");
    check("SELECT * FROM devices WHERE a = 0x", "Line 1:33 '0x' is not a number", "0x1F");
    check("SELECT * FROM devices WHERE a = 0x11112222333344445", "Line 1:33 ", "in range");
    check("SELECT * FROM devices WHERE FOO(a)", "Line 1:29 Unknown function 'FOO'", "STARTSWITH");
    check("SELECT * FROM devices WHERE COUNT() > 1", "Line 1:29 COUNT is an aggregate", "SELECT");
    check("SELECT * FROM devices WHERE IS_DEFINED()", "Line 1:29 IS_DEFINED takes 1 argument(s), not 0", "");
    check("SELECT * FROM devices WHERE SUBSTRING(a)", "Line 1:29 SUBSTRING takes 2 to 3", "");
    check("SELECT * FROM devices WHERE CONCAT(a)", "Line 1:29 CONCAT takes at least 2", "");
    check("SELECT LOWER(id) FROM devices", "Line 1:8 ", "COUNT(), AVG(path)");
    check("SELECT COUNT(id) FROM devices", "Line 1:14 ", "takes nothing");
    check("SELECT TOP 1.5 * FROM devices", "Line 1:12 Expected a whole number", "");
    check("SELECT DISTINCT id FROM devices", "Line 1:17 ", "FROM");
    check("SELECT * FROM devices LIMIT 5", "Line 1:23 ", "SELECT TOP n");
    check("SELECT * FROM devices GROUP BY tags.a", "Line 1:8 GROUP BY needs named columns", "instead of *");
    check("SELECT id, COUNT() FROM devices", "Line 1:8 'deviceId' has no single value", "GROUP BY");
    check("SELECT tags.a, tags.b.a FROM devices", "Line 1:8 Two columns are called 'a'", "with AS");
    check("SELECT COUNT() AS n FROM devices ORDER BY id", "Line 1:43 ORDER BY", "column of its SELECT");
    check(
        "SELECT * FROM devices ORDER BY a WHERE b",
        "Line 1:34 Expected an operator, WHERE",
        "in this order",
    );
    check(
        "SELECT devices.jobs.status FROM devices",
        "Line 1:8 The prefix 'devices.jobs.'",
        "FROM devices.jobs",
    );
}

#[test]
fn conditions_are_not_queries() {
    let check = |text: &str, expected: &str| {
        let error = Condition::parse(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    };
    check("SELECT * FROM devices", "only what stands behind WHERE");
    check("WHERE a = 1", "only what stands behind WHERE");
    check("* AND a = 1", "Line 1:3 Expected the end");
    check("FROM devices.modules", "Expected WHERE");
    check("FROM devices.modules WHERE *", "Expected a value");
    check("a = 1 GROUP BY a", "Line 1:7 Expected AND, OR or the end of the condition");
}

#[test]
fn hostile_texts_are_refused_at_once() {
    let check = |text: String, expected: &str| {
        let started = Instant::now();
        for error in
            [Query::parse(&text).expect_err("no query"), Condition::parse(&text).expect_err("no condition")]
        {
            assert!(error.to_string().len() < 300, "short: {error}");
        }
        let error = Query::parse(&text).expect_err("no query");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(started.elapsed() < Duration::from_secs(1));
    };
    let from = "SELECT * FROM devices WHERE ";
    check(format!("{from}{}", "x".repeat(10_000_000)), "too long: at most 8192 characters");
    check(format!("{from}{}", "(".repeat(10_000)), "too long");
    for nested in ["(", "NOT ", "-", "- ", "[", "ABS(", "x IN [[", "-(", "NOT(", "1+("] {
        check(format!("{from}{}", nested.repeat(8000 / nested.len())), "");
    }
    check(format!("{from}{}", "(".repeat(8000)), "Line 1:93 Nested too deeply: at most 64 levels");
    check(format!("{from}{}", "NOT ".repeat(2000)), "Nested too deeply");
    check(format!("{from}{}", "devices.".repeat(1000)), "Expected a name");
    check(format!("SELECT {}id FROM devices", "id,".repeat(2000)), "at most 256");
    check("\u{0}".to_owned(), "");
}

/// The text limit is one of characters, not of bytes.
#[test]
fn the_text_limit_is_exact() {
    let start = "SELECT * FROM devices WHERE deviceId = '";
    let text = format!("{start}{}'", "ä".repeat(8192 - start.len() - 1));
    assert!(Query::parse(&text).is_ok());
    assert!(Query::parse(&format!("{text} ")).is_err());
}

/// The deepest expression that is allowed needs little stack, in parsing and in everything that walks it.
#[test]
fn the_deepest_nesting_fits_a_small_stack() {
    const STACK_BYTES: usize = 256 * 1024;
    let deepest = |open: &str, close: &str| {
        let levels = QUERY_NESTING_LEVELS_MAX;
        format!("SELECT * FROM devices WHERE {}true{}", open.repeat(levels), close.repeat(levels))
    };
    let texts = [
        deepest("(", ")"),
        deepest("NOT ", ""),
        deepest("-", ""),
        deepest("ABS(", ")"),
        deepest("true AND (false OR ", ")"),
        deepest("1 + (2 * 3 + ", ")"),
        deepest("tags.x = (", ")"),
    ];
    let walk = move || {
        for text in texts {
            let query = Query::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(Query::parse(&query.to_string()), Ok(query.clone()));
            query.matches(&Document(&json!({"tags": {"x": true}})));
            assert!(query.condition().paths().len() < 2);
        }
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(walk).expect("a thread");
    assert!(thread.join().is_ok());
}
