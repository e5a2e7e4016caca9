//! Windows in time zones: over gaps and folds in both directions, with black-outs, ends and clocks that jump.
//! Expected moments are written in the device's own offset, so that a reader can check them against a wall clock.

use serde_json::{Value, json};

use super::*;

const HOUR: i64 = 3600;

/// What the window does to a device in `zone`, told at `now`: open until, or closed until, a moment.
#[derive(Debug, PartialEq)]
enum Seen {
    Open(Timestamp),
    Closed(Option<Timestamp>),
}

fn see(window: &Value, blackouts: &Value, zone: &str, now: &str) -> Seen {
    let gates = gates(json!({ "window": window }));
    let hub = hub(json!({ "blackouts": blackouts }));
    let twin = twin(json!({ "timeZone": zone }), "2020-01-01T00:00:00Z");
    let verdict = verdict(&gates, &twin, &hub, time(now));
    match verdict.is_open() {
        true => Seen::Open(verdict.next_change.expect("no window is open for ever")),
        false => {
            assert_eq!(verdict.next_open(), verdict.reasons[0].next);
            Seen::Closed(verdict.reasons[0].next)
        }
    }
}

fn daily(hour: i64, minute: i64, duration: i64) -> Value {
    json!({ "rrule": format!("FREQ=DAILY;BYHOUR={hour};BYMINUTE={minute}"), "durationInSeconds": duration })
}

fn check_open(window: &Value, zone: &str, now: &str, until: &str) {
    assert_eq!(see(window, &Value::Null, zone, now), Seen::Open(time(until)), "{window} {zone} {now}");
}

fn check_closed(window: &Value, zone: &str, now: &str, until: &str) {
    assert_eq!(
        see(window, &Value::Null, zone, now),
        Seen::Closed(Some(time(until))),
        "{window} {zone} {now}"
    );
}

#[test]
fn a_window_is_in_the_devices_own_time() {
    let night = daily(2, 0, 2 * HOUR);
    check_closed(&night, "Europe/Berlin", "2026-01-10T01:59:59+01:00", "2026-01-10T02:00:00+01:00");
    check_open(&night, "Europe/Berlin", "2026-01-10T02:00:00+01:00", "2026-01-10T04:00:00+01:00");
    check_open(&night, "Europe/Berlin", "2026-01-10T03:59:59.9999999+01:00", "2026-01-10T04:00:00+01:00");
    check_closed(&night, "Europe/Berlin", "2026-01-10T04:00:00+01:00", "2026-01-11T02:00:00+01:00");
    // Offsets of half and three quarters of an hour, and the ends of the day.
    check_open(&night, "Asia/Kolkata", "2026-01-10T02:10:00+05:30", "2026-01-10T04:00:00+05:30");
    check_open(&night, "Asia/Kathmandu", "2026-01-10T02:10:00+05:45", "2026-01-10T04:00:00+05:45");
    check_open(&night, "Pacific/Kiritimati", "2026-01-10T02:10:00+14:00", "2026-01-10T04:00:00+14:00");
    check_open(&night, "Pacific/Niue", "2026-01-10T02:10:00-11:00", "2026-01-10T04:00:00-11:00");
    let midnight = daily(23, 0, 2 * HOUR);
    check_open(&midnight, "America/New_York", "2026-01-11T00:30:00-05:00", "2026-01-11T01:00:00-05:00");
    // Windows that follow one another without a gap are one.
    let halves = json!({ "rrule": "FREQ=DAILY;BYHOUR=2,3", "durationInSeconds": HOUR });
    check_open(&halves, "UTC", "2026-01-10T02:10:00Z", "2026-01-10T04:00:00Z");
}

#[test]
fn clocks_go_forward() {
    // Berlin, 2026-03-29: 02:00 +01:00 is followed by 03:00 +02:00.
    let in_the_gap = daily(2, 30, HOUR);
    check_closed(&in_the_gap, "Europe/Berlin", "2026-03-29T01:59:59+01:00", "2026-03-29T03:30:00+02:00");
    check_closed(&in_the_gap, "Europe/Berlin", "2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00");
    check_open(&in_the_gap, "Europe/Berlin", "2026-03-29T03:30:00+02:00", "2026-03-29T04:30:00+02:00");
    check_closed(&in_the_gap, "Europe/Berlin", "2026-03-29T04:30:00+02:00", "2026-03-30T02:30:00+02:00");
    // A window over the gap lasts as long as it says.
    let over_the_gap = daily(1, 0, 2 * HOUR);
    check_open(&over_the_gap, "Europe/Berlin", "2026-03-29T01:30:00+01:00", "2026-03-29T04:00:00+02:00");
    // Later starts can come out earlier: 02:45 is 03:45, 03:00 is 03:00.
    let both = json!({ "rrule": "FREQ=DAILY;BYHOUR=2,3;BYMINUTE=45", "durationInSeconds": 60 });
    check_closed(&both, "Europe/Berlin", "2026-03-29T01:50:00+01:00", "2026-03-29T03:45:00+02:00");
    let mixed = json!({ "rrule": "FREQ=DAILY;BYHOUR=2,3;BYMINUTE=0,45", "durationInSeconds": 60 });
    check_closed(&mixed, "Europe/Berlin", "2026-03-29T01:50:00+01:00", "2026-03-29T03:00:00+02:00");
    check_closed(&mixed, "Europe/Berlin", "2026-03-29T03:10:00+02:00", "2026-03-29T03:45:00+02:00");
    // The southern hemisphere: Sydney, 2026-10-04; a gap of half an hour: Lord Howe, the same night.
    check_closed(&in_the_gap, "Australia/Sydney", "2026-10-04T01:00:00+10:00", "2026-10-04T03:30:00+11:00");
    let quarter = daily(2, 15, HOUR);
    check_closed(&quarter, "Australia/Lord_Howe", "2026-10-04T01:00:00+10:30", "2026-10-04T02:45:00+11:00");
    // A day that does not begin at midnight: Santiago, 2026-09-06.
    let midnight = daily(0, 0, HOUR);
    check_open(&midnight, "America/Santiago", "2026-09-06T01:10:00-03:00", "2026-09-06T02:00:00-03:00");
    // A whole day that never was: Apia, 2011-12-30.
    let start = json!({ "rrule": "FREQ=DAILY;BYHOUR=2", "durationInSeconds": HOUR });
    check_closed(&start, "Pacific/Apia", "2011-12-29T04:00:00-10:00", "2011-12-31T02:00:00+14:00");
}

#[test]
fn clocks_go_back() {
    // Berlin, 2026-10-25: 03:00 +02:00 is followed by 02:00 +01:00.
    let twice = daily(2, 30, 600);
    check_closed(&twice, "Europe/Berlin", "2026-10-25T01:00:00+02:00", "2026-10-25T02:30:00+02:00");
    check_open(&twice, "Europe/Berlin", "2026-10-25T02:30:00+02:00", "2026-10-25T02:40:00+02:00");
    check_closed(&twice, "Europe/Berlin", "2026-10-25T02:40:00+02:00", "2026-10-26T02:30:00+01:00");
    check_closed(&twice, "Europe/Berlin", "2026-10-25T02:35:00+01:00", "2026-10-26T02:30:00+01:00");
    // A window that is open when the hour repeats lasts as long as it says.
    let over = daily(2, 0, 2 * HOUR);
    check_open(&over, "Europe/Berlin", "2026-10-25T02:30:00+01:00", "2026-10-25T03:00:00+01:00");
    check_closed(&over, "Europe/Berlin", "2026-10-25T03:00:00+01:00", "2026-10-26T02:00:00+01:00");
    // Sydney, 2026-04-05; half an hour: Lord Howe, the same night.
    check_open(&twice, "Australia/Sydney", "2026-04-05T02:35:00+11:00", "2026-04-05T02:40:00+11:00");
    check_closed(&twice, "Australia/Sydney", "2026-04-05T02:35:00+10:00", "2026-04-06T02:30:00+10:00");
    let half = daily(1, 45, 600);
    check_open(&half, "Australia/Lord_Howe", "2026-04-05T01:50:00+11:00", "2026-04-05T01:55:00+11:00");
    check_closed(&half, "Australia/Lord_Howe", "2026-04-05T01:50:00+10:30", "2026-04-06T01:45:00+10:30");
}

#[test]
fn rules_are_those_of_the_standard() {
    let rule = |rrule: &str| json!({ "rrule": rrule, "durationInSeconds": HOUR });
    let from =
        |rrule: &str, start: &str| json!({ "rrule": rrule, "start": start, "durationInSeconds": HOUR });
    let check = |window: &Value, now: &str, opens: &str| check_closed(window, "UTC", now, opens);
    check(&rule("FREQ=WEEKLY;BYDAY=SA,SU;BYHOUR=4"), "2026-11-20T00:00:00Z", "2026-11-21T04:00:00Z");
    check(&rule("FREQ=WEEKLY"), "2026-11-20T00:00:00Z", "2026-11-23T00:00:00Z");
    check(&rule("FREQ=MONTHLY;BYDAY=2TU;BYHOUR=3"), "2026-11-20T00:00:00Z", "2026-12-08T03:00:00Z");
    check(&rule("FREQ=MONTHLY;BYMONTHDAY=-1;BYHOUR=3"), "2026-02-10T00:00:00Z", "2026-02-28T03:00:00Z");
    let last_workday = "RRULE:FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1;BYHOUR=3";
    check(&rule(last_workday), "2026-05-01T00:00:00Z", "2026-05-29T03:00:00Z");
    check(
        &rule("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;BYHOUR=1"),
        "2026-01-01T00:00:00Z",
        "2028-02-29T01:00:00Z",
    );
    check(
        &rule("FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=29;BYHOUR=1"),
        "2026-01-01T00:00:00Z",
        "2028-02-29T01:00:00Z",
    );
    check(&rule("FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO"), "2026-01-01T00:00:00Z", "2026-05-11T00:00:00Z");
    // Intervals count from the start, however long ago that was.
    let start = "1970-01-02T05:30:00";
    check(&from("FREQ=DAILY;INTERVAL=3", start), "2026-11-20T06:40:00Z", "2026-11-22T05:30:00Z");
    check(&from("FREQ=WEEKLY;INTERVAL=2", start), "2026-11-13T07:00:00Z", "2026-11-20T05:30:00Z");
    check(&from("FREQ=MONTHLY;INTERVAL=5", start), "2026-11-20T00:00:00Z", "2027-02-02T05:30:00Z");
    check(&from("FREQ=YEARLY;INTERVAL=10", start), "2026-11-20T00:00:00Z", "2030-01-02T05:30:00Z");
    check(&from("FREQ=HOURLY;INTERVAL=5", start), "2026-11-20T05:00:00Z", "2026-11-20T06:30:00Z");
    check(
        &from("FREQ=MONTHLY;INTERVAL=12", "2024-01-31T01:00:00"),
        "2026-11-20T00:00:00Z",
        "2027-01-31T01:00:00Z",
    );
    check(&from("FREQ=DAILY", "2026-12-24T05:00:00"), "2026-11-20T00:00:00Z", "2026-12-24T05:00:00Z");
    check(&from("FREQ=DAILY;COUNT=3", "2026-12-24T05:00:00"), "2026-12-25T07:00:00Z", "2026-12-26T05:00:00Z");
}

#[test]
fn windows_end() {
    let ended = |window: &Value, now: &str| {
        assert_eq!(see(window, &Value::Null, "Asia/Tokyo", now), Seen::Closed(None), "{window} {now}");
    };
    let until = |until: &str| json!({ "rrule": format!("FREQ=DAILY;BYHOUR=3;UNTIL={until}"), "durationInSeconds": HOUR });
    let count =
        json!({ "rrule": "FREQ=DAILY;COUNT=2", "start": "2026-01-01T03:00:00", "durationInSeconds": HOUR });
    for window in [until("20260102"), until("20260102T030000"), until("20260101T180000Z"), count] {
        check_open(&window, "Asia/Tokyo", "2026-01-01T03:30:00+09:00", "2026-01-01T04:00:00+09:00");
        check_closed(&window, "Asia/Tokyo", "2026-01-01T04:00:00+09:00", "2026-01-02T03:00:00+09:00");
        check_open(&window, "Asia/Tokyo", "2026-01-02T03:59:59+09:00", "2026-01-02T04:00:00+09:00");
        ended(&window, "2026-01-02T04:00:00+09:00");
        ended(&window, "2036-01-02T04:00:00+09:00");
    }
    ended(&until("20260102T025959"), "2026-01-02T03:30:00+09:00");
    let yearly = json!({ "rrule": "FREQ=YEARLY;UNTIL=20270101T120000Z", "durationInSeconds": HOUR });
    ended(&yearly, "2027-01-01T02:00:00+09:00");
    ended(&until("20260101T175959Z"), "2026-01-02T03:30:00+09:00");
    for window in [until("20260102"), until("20260102T000000Z"), yearly] {
        let gates = gates(json!({ "window": window }));
        let twin = twin(json!({ "timeZone": "Asia/Tokyo" }), "2026-01-01T00:00:00Z");
        let verdict = verdict(&gates, &twin, &HubContext::default(), time("2027-02-01T00:00:00Z"));
        assert_eq!((keys(&verdict), verdict.next_change), (vec!["window.neverOpens".to_owned()], None));
    }
}

#[test]
fn black_out_dates_close_whole_local_days() {
    let blackouts = json!(["2026-12-24", { "from": "2026-12-25", "to": "2026-12-26" }]);
    let night = daily(23, 0, 2 * HOUR);
    let check = |now: &str, expected: Seen| {
        assert_eq!(see(&night, &blackouts, "America/New_York", now), expected, "{now}");
    };
    check("2026-12-23T23:30:00-05:00", Seen::Open(time("2026-12-24T00:00:00-05:00")));
    // The rest of the window that began on the last black-out date is open.
    check("2026-12-24T00:00:00-05:00", Seen::Closed(Some(time("2026-12-27T00:00:00-05:00"))));
    check("2026-12-27T00:00:00-05:00", Seen::Open(time("2026-12-27T01:00:00-05:00")));
    check("2026-12-20T12:00:00-05:00", Seen::Closed(Some(time("2026-12-20T23:00:00-05:00"))));
    // A window's own dates count as those of the hub do.
    let own = json!({
        "rrule": "FREQ=DAILY;BYHOUR=3", "durationInSeconds": HOUR, "blackouts": ["2026-12-27", "2026-12-28"]
    });
    let expected = Seen::Closed(Some(time("2026-12-29T03:00:00-05:00")));
    assert_eq!(see(&own, &blackouts, "America/New_York", "2026-12-23T04:00:00-05:00"), expected);
    // Yearly, and always on a black-out date that the hub knows of: it looks again later.
    let yearly = json!({ "rrule": "FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=24", "durationInSeconds": HOUR });
    let dates: Vec<String> = (2026..2199).map(|year| format!("{year}-12-24")).collect();
    let hub = hub(json!({ "blackouts": dates }));
    let twin = twin(json!({ "timeZone": "UTC" }), "2026-01-01T00:00:00Z");
    let now = time("2026-12-24T10:00:00Z");
    let verdict = verdict(&gates(json!({ "window": yearly })), &twin, &hub, now);
    assert_eq!(keys(&verdict), ["window.blackout"]);
    assert_eq!(verdict.reasons[0].next, None);
    assert!(verdict.next_change.expect("it looks again") > now);
}

#[test]
fn a_clock_that_jumps_is_taken_as_it_is() {
    let window = daily(2, 0, 2 * HOUR);
    let gates =
        gates(json!({ "window": window, "power": { "mainsRequired": true, "factMaxAgeInSeconds": 60 } }));
    let twin = twin(json!({ "timeZone": "UTC", "power": { "onMains": true } }), "2026-01-10T02:30:00Z");
    let at = |now: &str| keys(&verdict(&gates, &twin, &HubContext::default(), time(now)));
    assert_eq!(at("2026-01-10T02:30:10Z"), Vec::<String>::new());
    // An hour ahead, an hour back (the fact seems to be of the future: it is not old), and as it was.
    assert_eq!(at("2026-01-10T03:30:10Z"), ["power.tooOld"]);
    assert_eq!(at("2026-01-10T01:30:10Z"), ["window.outsideWindow"]);
    assert_eq!(at("2026-01-10T02:30:10Z"), Vec::<String>::new());
    // Years away, both ways, and back: nothing is remembered that the time alone does not say.
    for odd in [i64::MIN, i64::MIN / 2, -1, 0, i64::MAX / 2, i64::MAX] {
        let odd = Timestamp::from_ticks(odd);
        let first = verdict(&gates, &twin, &HubContext::default(), odd);
        assert!(first.next_change.is_none_or(|change| change > odd));
        assert_eq!(at("2026-01-10T02:30:10Z"), Vec::<String>::new());
    }
}

#[test]
fn which_window() {
    let hub = hub(json!({ "windows": { "night": daily(2, 0, HOUR), "noon": daily(12, 0, HOUR) } }));
    let now = time("2026-01-10T02:30:00Z");
    let check = |window: Value, twin: &Value, expected: &[&str]| {
        let verdict = verdict(&gates(json!({ "window": window })), twin, &hub, now);
        assert_eq!(keys(&verdict), expected, "{window}");
    };
    let here = twin(json!({ "timeZone": "UTC", "window": "noon" }), "2026-01-01T00:00:00Z");
    check(json!({ "named": "night" }), &here, &[]);
    check(json!({ "named": "noon" }), &here, &["window.outsideWindow"]);
    check(json!({ "named": "never" }), &here, &["window.notDefined"]);
    check(json!({ "named": "never", "unknown": "open" }), &here, &[]);
    check(json!({ "fromTag": "tags.window" }), &here, &[]);
    check(json!({ "fromTag": "tags.site" }), &here, &["window.notDefined"]);
    check(json!({ "fromTag": "tags.none" }), &here, &["window.missing"]);
    check(json!({ "fromTag": "properties.reported.context.window" }), &here, &["window.outsideWindow"]);
    // The zone.
    for zone in [json!("Middle/Earth"), json!("Etc/Unknown"), json!(""), json!(1), json!({ "a": 1 })] {
        let twin = twin(json!({ "timeZone": zone }), "2026-01-01T00:00:00Z");
        check(json!({ "named": "night" }), &twin, &["window.unusable"]);
    }
    let nowhere = twin(json!({}), "2026-01-01T00:00:00Z");
    check(json!({ "named": "night" }), &nowhere, &["window.missing"]);
    let mut tagged = nowhere;
    tagged["tags"]["timeZone"] = json!("Asia/Tokyo");
    check(json!({ "named": "night" }), &tagged, &["window.outsideWindow"]);
    // Only a gate's own age makes a zone old.
    let gates_of = |window: Value| gates(json!({ "window": window, "factMaxAgeInSeconds": 60 }));
    assert!(verdict(&gates_of(json!({ "named": "night" })), &here, &hub, now).is_open());
    let strict = gates_of(json!({ "named": "night", "factMaxAgeInSeconds": 60 }));
    assert_eq!(keys(&verdict(&strict, &here, &hub, now)), ["window.tooOld"]);
}
