//! Queries that must parse, with their canonical form: collected from documents, tools and SDK samples.

use super::super::{Condition, ItemType, Query, Source};
use super::query;

/// Canonical already: parsing and printing gives them back.
const CANONICAL: &[&str] = &[
    "SELECT * FROM devices",
    "SELECT TOP 10 * FROM devices WHERE tags.location.region = 'US'",
    "SELECT * FROM devices WHERE properties.reported.connectivity IN ['wired', 'wifi']",
    "SELECT * FROM devices WHERE tags.[[group]].name = 'x'",
    "SELECT * FROM devices WHERE configurations.[[cfg-a]].status = 'Applied'",
    "SELECT * FROM devices WHERE properties.desired.rate != properties.reported.rate",
    "SELECT * FROM devices WHERE properties.reported.$metadata.$lastUpdated < '2025-01-01T00:00:00Z'",
    "SELECT * FROM devices WHERE connectionState = 'Disconnected' AND lastActivityTime < '2025-11-01'",
    "SELECT * FROM devices WHERE deviceScope = 'ms-azure-iot-edge://gw-1' AND capabilities.iotEdge = false",
    "SELECT deviceId, properties.reported.fw AS fw FROM devices",
    "SELECT COUNT() AS totalNumber FROM devices",
    "SELECT COUNT() FROM devices",
    "SELECT properties.reported.cfg.status AS status, COUNT() AS numberOfDevices FROM devices \
     GROUP BY properties.reported.cfg.status",
    "SELECT properties.reported.cfg.status AS status, COUNT() AS n FROM devices \
     GROUP BY properties.reported.cfg.status ORDER BY n DESC, properties.reported.cfg.status",
    "SELECT * FROM devices.modules WHERE properties.reported.status = 'scanning' AND deviceId IN ['d1', 'd2']",
    "SELECT deviceId, moduleId FROM devices.modules WHERE properties.reported.lastDesiredStatus.code = 200",
    "SELECT * FROM devices WHERE a = 1 OR b = 2 AND (c = 3 OR NOT d = 4)",
    "SELECT * FROM devices WHERE 1 - (2 - 3) * -tags.x / (4 * 5) > -(1 + 2)",
    "SELECT * FROM devices WHERE (NOT a) = true AND NOT NOT b",
    "SELECT * FROM devices WHERE tags.x IN [1, -2, 2.5, 1e300, true, null, ['a', []]] AND tags.y NIN []",
    "SELECT * FROM devices WHERE tags.[[a.b]].[[my key]].[[1]].[[]]]] = undefined",
    "SELECT tags.x AS [[my key]] FROM devices ORDER BY tags.x DESC, devices.unheard",
    "SELECT tags.x, COUNT() AS [[my count]] FROM devices GROUP BY tags.x ORDER BY [[my count]] DESC",
    "SELECT * FROM devices WHERE tags.x = 'it\\'s \\\\ \\u0007 \"quoted\" Grüße'",
];

/// As written in the wild, and the canonical form.
const AS_WRITTEN: &[(&str, &str)] = &[
    (
        "select * from DEVICES where capabilities.iotEdge=true",
        "SELECT * FROM devices WHERE capabilities.iotEdge = true",
    ),
    (
        "SELECT * FROM devices WHERE tags.location.region = \"US\" AND properties.reported.cfg.freq >= 60",
        "SELECT * FROM devices WHERE tags.location.region = 'US' AND properties.reported.cfg.freq >= 60",
    ),
    (
        "SELECT * FROM devices WHERE tags.site NIN ['a','b'] AND NOT (status = 'disabled')",
        "SELECT * FROM devices WHERE tags.site NIN ['a', 'b'] AND NOT status = 'disabled'",
    ),
    (
        "SELECT * FROM devices WHERE is_defined(properties.reported.connectivity)",
        "SELECT * FROM devices WHERE IS_DEFINED(properties.reported.connectivity)",
    ),
    (
        "SELECT * FROM devices WHERE deviceId IN ['d1','d2']",
        "SELECT * FROM devices WHERE deviceId IN ['d1', 'd2']",
    ),
    (
        "SELECT * FROM devices WHERE STARTSWITH(deviceId, 'pump-') AND NOT ENDSWITH(deviceId,'-old')",
        "SELECT * FROM devices WHERE STARTSWITH(deviceId, 'pump-') AND NOT ENDSWITH(deviceId, '-old')",
    ),
    (
        "SELECT * FROM devices WHERE starts_with(id, 'p') AND NOT Ends_With(ID,'x')",
        "SELECT * FROM devices WHERE STARTSWITH(deviceId, 'p') AND NOT ENDSWITH(deviceId, 'x')",
    ),
    (
        "SELECT * FROM devices WHERE properties.reported.batt * 100 / 2 > 0x1F + 3 % 2",
        "SELECT * FROM devices WHERE properties.reported.batt * 100 / 2 > 31 + 3 % 2",
    ),
    (
        "SELECT * FROM devices WHERE array_contains(parentScopes, 'ms-azure-iot-edge://gw-1')",
        "SELECT * FROM devices WHERE ARRAY_CONTAINS(parentScopes, 'ms-azure-iot-edge://gw-1')",
    ),
    (
        "SELECT DeviceId, LastActivityTime FROM devices WHERE status = 'enabled'",
        "SELECT deviceId, lastActivityTime FROM devices WHERE status = 'enabled'",
    ),
    (
        "SELECT COUNT() AS n, AVG(properties.reported.temp) AS avgT FROM devices WHERE tags.site='a'",
        "SELECT COUNT() AS n, AVG(properties.reported.temp) AS avgT FROM devices WHERE tags.site = 'a'",
    ),
    (
        "select deviceId from devices.modules where moduleId = '$edgeAgent' and configurations.[[dep1]].status = \
         'Applied' and properties.desired.$version = properties.reported.lastDesiredVersion and \
         properties.reported.lastDesiredStatus.code != 200",
        "SELECT deviceId FROM devices.modules WHERE moduleId = '$edgeAgent' AND configurations.dep1.status = \
         'Applied' AND properties.desired.$version = properties.reported.lastDesiredVersion AND \
         properties.reported.lastDesiredStatus.code != 200",
    ),
    (
        "SELECT * FROM devices.jobs WHERE devices.jobs.deviceId = 'd1' AND devices.jobs.status = 'completed'",
        "SELECT * FROM devices.jobs WHERE deviceId = 'd1' AND status = 'completed'",
    ),
    (
        "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'roll-1' AND devices.jobs.jobType = 'scheduleUpdateTwin'",
        "SELECT * FROM devices.jobs WHERE jobId = 'roll-1' AND jobType = 'scheduleUpdateTwin'",
    ),
    (
        "SELECT * FROM devices.jobs WHERE devices.jobs.createdTimeUtc > '2016-09-01'",
        "SELECT * FROM devices.jobs WHERE createdDateTimeUtc > '2016-09-01'",
    ),
    (
        "Select /* all */ * From devices /* of\nthem */ Where devices.DeviceId <> 'it''s' and Tags.Site=\"a\"\"b\"",
        "SELECT * FROM devices WHERE deviceId != 'it\\'s' AND tags.Site = 'a\"b'",
    ),
    (
        "SELECT PROPERTIES.Desired.Rate FROM devices WHERE properties.reported.[[$VERSION]]>1 and tags.group.order=1",
        "SELECT properties.desired.Rate FROM devices WHERE properties.reported.$version > 1 \
         AND tags.[[group]].[[order]] = 1",
    ),
    ("SELECT * FROM devices WHERE '\\u00e4\\uD83D\\uDC4B' = x", "SELECT * FROM devices WHERE 'ä👋' = x"),
    (
        "SELECT deviceId, tags.fw AS fw FROM devices ORDER BY fw DESC, DeviceId ASC",
        "SELECT deviceId, tags.fw AS fw FROM devices ORDER BY tags.fw DESC, deviceId",
    ),
    ("SELECT * FROM devices WHERE - - 5 = -(tags.x)", "SELECT * FROM devices WHERE 5 = -tags.x"),
    (
        "SELECT * FROM devices WHERE devices.[[my x]].y = 1",
        "SELECT * FROM devices WHERE devices.[[my x]].y = 1",
    ),
];

#[test]
fn examples_parse_and_print() {
    let canonical = CANONICAL.iter().map(|text| (*text, *text));
    for (written, expected) in canonical.chain(AS_WRITTEN.iter().copied()) {
        let parsed = query(written);
        assert_eq!(parsed.to_string(), expected, "printed form of {written}");
        assert_eq!(query(expected), parsed, "print and parse of {written}");
    }
}

#[test]
fn item_types() {
    let check = |text: &str, item_type: ItemType, source: Source| {
        assert_eq!((query(text).item_type(), query(text).source()), (item_type, source), "{text}");
    };
    check("SELECT * FROM devices", ItemType::Twin, Source::Devices);
    check("SELECT TOP 2 * FROM devices.modules", ItemType::Twin, Source::DeviceModules);
    check("SELECT * FROM devices.jobs", ItemType::DeviceJob, Source::DeviceJobs);
    check("SELECT * FROM Devices.Retired", ItemType::Raw, Source::RetiredDevices);
    check("SELECT retirement.reason FROM devices.retired", ItemType::Raw, Source::RetiredDevices);
    check("SELECT deviceId FROM devices", ItemType::Raw, Source::Devices);
    check("SELECT COUNT() FROM devices", ItemType::Raw, Source::Devices);
    assert_eq!(ItemType::JobResponse.name(), "JobResponse");
    assert_eq!(query("SELECT TOP 2 * FROM devices").top(), Some(2));
}

#[test]
fn conditions_parse_and_print() {
    let check = |written: &str, expected: &str| {
        let parsed = Condition::parse(written).unwrap_or_else(|error| panic!("{written}: {error}"));
        assert_eq!(parsed.to_string(), expected);
        assert_eq!(Condition::parse(expected), Ok(parsed));
    };
    check(" * ", "*");
    check(" \n", "");
    check("tags.site='a' and deviceId in ['x']", "tags.site = 'a' AND deviceId IN ['x']");
    check("from devices.modules where moduleId = 'm'", "FROM devices.modules WHERE moduleId = 'm'");
    check("FROM devices WHERE tags.a = 1", "tags.a = 1");
    assert_eq!(
        Condition::parse("from devices.modules where true").map(|c| c.source()),
        Ok(Source::DeviceModules)
    );
}

/// A chain is not nesting: a condition may name as many devices as its length allows.
#[test]
fn long_chains_parse() {
    let mut text = "SELECT * FROM devices WHERE id='d0'".to_owned();
    for number in 1..500 {
        text.push_str(&format!(" OR id='d{number}'"));
    }
    assert_eq!(query(&text).device_ids().map(|ids| ids.len()), Some(500));
    let sum = format!("SELECT * FROM devices WHERE 4000 = {}1", "1+".repeat(3999));
    assert!(Query::parse(&sum).is_ok_and(|query| query.matches(&super::Document(&super::pump()))));
}

#[test]
fn plans() {
    let ids = |text: &str| {
        let condition = Condition::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        condition.device_ids().map(|ids| ids.into_iter().collect::<Vec<_>>().join(","))
    };
    assert_eq!(ids("deviceId = 'a'"), Some("a".to_owned()));
    assert_eq!(ids("'a' = DeviceId AND tags.x = 1"), Some("a".to_owned()));
    assert_eq!(ids("id IN ['b', 'a', 1] AND tags.x = 1 OR id = 'c'"), Some("a,b,c".to_owned()));
    assert_eq!(ids("id IN ['b', 'a'] AND id IN ['a', 'c']"), Some("a".to_owned()));
    assert_eq!(ids("id = 'a' OR tags.x = 1"), None);
    assert_eq!(ids("NOT id = 'a'"), None);
    assert_eq!(ids("id NIN ['a']"), None);
    assert_eq!(ids("id > 'a'"), None);
    assert_eq!(ids("*"), None);
    assert_eq!(ids(""), Some(String::new()));

    let condition = Condition::parse(
        "tags.b = 1 AND -properties.reported.a + 1 > 2 AND NOT LENGTH(tags.a) IN [1] AND tags.b != modelId",
    );
    let condition = condition.expect("a valid condition");
    let paths: Vec<String> = condition.paths().into_iter().map(ToString::to_string).collect();
    assert_eq!(paths, ["modelId", "tags.a", "tags.b", "properties.reported.a"]);
}
