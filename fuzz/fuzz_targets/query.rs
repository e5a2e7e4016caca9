//! Any text is a query or a clear error; a query prints as one that parses to itself, and never panics on a twin.
#![no_main]

use hub_domain::query::{Aggregation, Condition, Document, Query};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|text: &str| {
    let twin = json!({
        "deviceId": "d1", "status": "enabled", "version": 3, "tags": {"site": "a", "n": 1.5, "list": [1, "x"]},
        "properties": {"desired": {"a": {"b": true}, "$version": 2}, "reported": {"a": null, "$version": 1}},
    });
    let row = Document(&twin);
    if let Ok(query) = Query::parse(text) {
        assert_eq!(Query::parse(&query.to_string()).as_ref(), Ok(&query));
        if query.matches(&row) {
            let mut aggregation = Aggregation::new(&query);
            let _ = aggregation.add(&row);
            aggregation.finish();
        }
        query.project(&row);
        query.sort_key(&row);
    }
    if let Ok(condition) = Condition::parse(text) {
        condition.matches(&row);
    }
});
