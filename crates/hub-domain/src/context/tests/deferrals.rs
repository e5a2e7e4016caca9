//! What a device may answer to put an action off.

use std::time::Duration;

use super::super::{CONTEXT_REASON_CHARS_MAX, DEFERRAL_DEFAULT, DEFERRAL_MAX, Deferral};
use super::time;
use crate::method::MethodResult;

#[test]
fn answers() {
    let now = time("2026-01-10T00:00:00Z");
    let from = |status: i32, payload: &str| {
        Deferral::from_answer(&MethodResult { status, payload: payload.into() }, now)
    };
    let check = |status: i32, payload: &str, seconds: u64, is_shortened: bool| {
        let found = from(status, payload).unwrap_or_else(|| panic!("{status} {payload}"));
        let expected = (now.plus(Duration::from_secs(seconds)), is_shortened);
        assert_eq!((found.until, found.is_shortened), expected, "{status} {payload}");
    };
    let (standard, most) = (DEFERRAL_DEFAULT.as_secs(), DEFERRAL_MAX.as_secs());
    check(503, "null", standard, false);
    check(429, r#"{"error":{"code":"busy"}}"#, standard, false);
    check(503, "not JSON", standard, false);
    check(200, r#"{"deferred":{"afterSeconds":90}}"#, 90, false);
    check(503, r#"{"deferred":{"afterSeconds":90,"untilUtc":"2027-01-01T00:00:00Z"}}"#, 90, false);
    check(409, r#"{"deferred":{"untilUtc":"2026-01-10T00:10:00Z"}}"#, 600, false);
    check(409, r#"{"deferred":{"untilUtc":"2026-01-10T02:10:00+02:00"}}"#, 600, false);
    check(409, r#"{"deferred":{"untilUtc":1768003800}}"#, 600, false);
    check(200, r#"{"deferred":true}"#, standard, false);
    // A clock that is a year off, either way, and values without a sense.
    check(200, r#"{"deferred":{"untilUtc":"2027-01-10T00:00:00Z"}}"#, most, true);
    check(200, r#"{"deferred":{"untilUtc":"2025-01-10T00:00:00Z"}}"#, standard, false);
    check(200, r#"{"deferred":{"afterSeconds":1e300}}"#, most, true);
    check(200, r#"{"deferred":{"afterSeconds":0}}"#, 1, false);
    check(200, r#"{"deferred":{"afterSeconds":-5}}"#, standard, false);
    check(200, r#"{"deferred":{"afterSeconds":"soon","untilUtc":"tomorrow"}}"#, standard, false);
    for (status, payload) in [
        (200, "null"),
        (500, "{}"),
        (200, r#"{"deferred":null}"#),
        (200, r#"{"deferred":false}"#),
        (200, r#"{"deferred":"yes"}"#),
        (202, r#"[{"deferred":{}}]"#),
    ] {
        assert_eq!(from(status, payload), None, "{status} {payload}");
    }
    let reason = from(200, r#"{"deferred":{"reason":"an operation is under way"}}"#).and_then(|it| it.reason);
    assert_eq!(reason.as_deref(), Some("an operation is under way"));
    let long = format!(r#"{{"deferred":{{"reason":"{}"}}}}"#, "ü".repeat(5000));
    let reason = from(200, &long).and_then(|it| it.reason).expect("a reason");
    assert_eq!(reason.chars().count(), CONTEXT_REASON_CHARS_MAX);
}
