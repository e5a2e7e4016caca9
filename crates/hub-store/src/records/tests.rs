//! Fixtures: rows as releases wrote them are read, and what this release writes is read back as it was.
//! A line here must never be changed: it is what is on people's disks.

use hub_domain::actor::Actor;
use hub_domain::configuration::{Configuration, ConfigurationSpec, Revision};
use hub_domain::event::{Event, EventKind, GatesOf, LifecycleBody, LifecycleStep, Position};
use hub_domain::id::{ConfigurationId, JobId, TwinId};
use hub_domain::job::JobStatus;
use hub_domain::json::Object;
use hub_domain::time::Timestamp;
use hub_domain::transfer::{Refusal, TransferCounts, TransferKind, TransferSpec, TransferState};
use hub_domain::twin::{ConfigurationStatus, PackedTwin, PathChange, PathChanges, Stamp, Twin, WrittenBy};
use serde_json::{Value, json};

use super::*;

fn object(value: Value) -> Object {
    value.as_object().expect("an object").clone()
}

fn row(json: &str) -> Vec<u8> {
    [&[1], json.as_bytes()].concat()
}

/// A twin from before there were configurations.
const TWIN_PLAIN: &str = r#"{"etag":3,"tags":{"site":"a"},"desired":{"version":2,"values":{"a":{"b":1}},"stamps":[50000000,2,{"a":[50000000,2,{"b":[50000000,2]}]}]},"reported":{"version":1,"values":{},"stamps":[10000000,null]},"modelId":"dtmi:x;1"}"#;

/// A twin that two configurations match, one of which wrote two of its properties.
const TWIN_CONFIGURED: &str = r#"{"etag":3,"tags":{"site":"a"},"desired":{"version":2,"values":{"a":{"b":1},"c":2},"stamps":[50000000,2,{"a":[50000000,2,{"b":[50000000,2]}],"c":[50000000,2]}],"owned":[{"by":"cfg-a","digest":638993,"paths":["a.b","c"]}]},"reported":{"version":1,"values":{},"stamps":[10000000,null]},"modelId":"dtmi:x;1","configurations":{"cfg-a":"Applied","cfg-b":"Targeted"}}"#;

/// A twin of which it is known who wrote its desired properties.
const TWIN_AUTHORED: &str = r#"{"etag":3,"tags":{"site":"a"},"desired":{"version":2,"values":{"a":{"b":1}},"stamps":[50000000,2,{"a":[50000000,2,{"b":[50000000,2]}]}]},"reported":{"version":1,"values":{},"stamps":[10000000,null]},"modelId":"dtmi:x;1","authors":[[2,"job:ring-1"]]}"#;

/// The same three in the second format, in hexadecimal.
const PACKED_PLAIN: &str = "0203010473697465060161020101610801016203010780c2d72f02000501000001000380dac40900000964746d693a783b310000";
const PACKED_CONFIGURED: &str = "020301047369746506016102020161080101620301016303020780c2d72f02000503000201056366672d619180270000030002010001000380dac40900000964746d693a783b3102056366672d61074170706c696564056366672d6208546172676574656400";
const PACKED_AUTHORED: &str = "0203010473697465060161020101610801016203010780c2d72f02000501000001000380dac40900000964746d693a783b310001020a6a6f623a72696e672d31";

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hexadecimal[at..at + 2], 16).expect("hexadecimal");
    (0..hexadecimal.len()).step_by(2).map(digit).collect()
}

fn encoded(twin: &Twin) -> Bytes {
    twin::encode(&PackedTwin::new(twin))
}

fn configuration(id: &str) -> ConfigurationId {
    ConfigurationId::parse(id).expect("an id")
}

fn plain_twin() -> Twin {
    let mut twin = Twin::new(Timestamp::from_seconds(1));
    twin.etag_counter = 3;
    twin.tags = object(json!({"site": "a"}));
    twin.desired.merge(&object(json!({"a": {"b": 1}})), &Stamp::desired(Timestamp::from_seconds(5), 2));
    twin.model_id = Some("dtmi:x;1".into());
    twin
}

fn configured_twin() -> Twin {
    let mut twin = plain_twin();
    twin.desired.version = 1;
    twin.desired.merge(&object(json!({"c": 2})), &Stamp::desired(Timestamp::from_seconds(5), 2));
    let by = Some(WrittenBy::new(configuration("cfg-a"), 638_993, false));
    let children = &mut twin.desired.metadata.children;
    children.get_mut("c").expect("c").stamp.by = by.clone();
    children.get_mut("a").and_then(|a| a.children.get_mut("b")).expect("a.b").stamp.by = by;
    twin.configurations.insert(configuration("cfg-a"), ConfigurationStatus::Applied);
    twin.configurations.insert(configuration("cfg-b"), ConfigurationStatus::Targeted);
    twin
}

#[test]
fn twins_are_written_and_read_as_ever() {
    let key = Key::new("twin/d");
    let author = Actor::parse("job:ring-1").expect("an actor");
    for (fixture, twin) in [
        (TWIN_PLAIN, plain_twin()),
        (TWIN_CONFIGURED, configured_twin()),
        (TWIN_AUTHORED, plain_twin().written_by(author.clone())),
    ] {
        let (id, read) = twin::decode(&key, &row(fixture)).expect("a row that is read");
        assert_eq!((id.to_string().as_str(), read), ("d", twin));
    }
    for (fixture, twin) in [
        (PACKED_PLAIN, plain_twin()),
        (PACKED_CONFIGURED, configured_twin()),
        (PACKED_AUTHORED, plain_twin().written_by(author)),
    ] {
        let (id, read) = twin::decode(&key, &bytes(fixture)).expect("a row that is read");
        assert_eq!((id.to_string().as_str(), read), ("d", twin.clone()));
        assert_eq!(encoded(&twin).escape_ascii().to_string(), bytes(fixture).escape_ascii().to_string());
        let stored = bytes(fixture);
        let (_, packed) = twin::decode_packed(&key, &stored).expect("a row that is read");
        assert_eq!(PackedTwin::open_bytes(&packed), Ok(twin));
        let damaged = twin::decode(&key, &bytes(fixture)[..20]).expect_err("the end is missing");
        assert!(damaged.to_string().contains("not a packed twin"), "{damaged}");
    }
    let mut deployed = plain_twin();
    deployed.desired.metadata.children.get_mut("a").expect("a").stamp.by =
        Some(WrittenBy::new(configuration("edge"), u64::MAX, true));
    assert_eq!(twin::decode(&key, &encoded(&deployed)).expect("read back").1, deployed);
}

#[test]
fn who_was_let_in_is_written_and_read() {
    let key = Key::new("twin/d");
    let mut twin = configured_twin();
    twin.let_in.insert(configuration("cfg-a"), 638_993);
    twin.let_in.insert(configuration("cfg-b"), 0);
    let written = encoded(&twin);
    assert_eq!(twin::decode(&key, &written).expect("a row that is read").1, twin);
    // At the end, where rows from before gates have nothing.
    let former = encoded(&configured_twin());
    assert_eq!(written[..former.len()], former[..]);
    assert!(twin::decode(&key, &written[..written.len() - 1]).is_err());
}

/// Behind a gate since its third second, and overridden by somebody.
const CONFIGURATION_GATED: &str = r#"{"content":{"deviceContent":{"properties.desired.mode":"eco"}},"target":"*","priority":0,"gates":{"power":{"minimumBatteryPercent":40.0}},"gating":{"since":30000000,"overridden":{"at":40000000,"by":"policy:service","reason":"now"}},"counter":2,"created":10000000,"updated":40000000,"contentUpdated":10000000}"#;

#[test]
fn gates_of_configurations_are_written_and_read() {
    let key = Key::new("configuration/c");
    let read = configuration::decode(&key, &row(CONFIGURATION_GATED)).expect("a row that is read");
    let gating = read.gating().expect("gates");
    assert_eq!(gating.since, Timestamp::from_seconds(3));
    let by = gating.overridden.clone().expect("somebody");
    assert_eq!((by.by, by.reason.as_str()), (Actor::Policy("service".into()), "now"));
    let written = configuration::encode(&read);
    assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&row(CONFIGURATION_GATED)));
    for (good, bad) in [("minimumBattery", "maximumBattery"), ("policy:service", "nobody")] {
        let damaged = CONFIGURATION_GATED.replacen(good, bad, 1);
        let error = configuration::decode(&key, &row(&damaged)).expect_err(bad).to_string();
        assert!(error.contains("is not valid"), "{error}");
    }
}

#[test]
fn damage_in_what_configurations_left_is_told() {
    let key = Key::new("twin/d");
    for (good, bad) in [
        ("\"a.b\"", "\"a.x\""),
        ("\"by\":\"cfg-a\"", "\"by\":\"CFG\""),
        ("\"Applied\"", "\"applied\""),
        ("\"cfg-b\"", "\"a b\""),
    ] {
        let damaged = TWIN_CONFIGURED.replacen(good, bad, 1);
        assert_ne!(damaged, TWIN_CONFIGURED, "{good}");
        let error = twin::decode(&key, &row(&damaged)).expect_err(bad);
        assert!(error.to_string().contains("is not valid"), "{error}");
    }
}

const CONFIGURATION_FULL: &str = r#"{"schemaVersion":"1.0","contentType":"assignment","labels":{"team":"x"},"content":{"deviceContent":{"properties.desired.mode":"eco"}},"target":"tags.site='a'","priority":10,"metrics":{"ok":"SELECT deviceId FROM devices"},"counter":3,"created":10000000,"updated":50000000,"contentUpdated":20000000}"#;

const CONFIGURATION_BARE: &str = r#"{"content":{"modulesContent":{"$edgeAgent":{"properties.desired":{}}}},"target":"*","priority":0,"counter":1,"created":10000000,"updated":10000000,"contentUpdated":10000000}"#;

#[test]
fn configurations_are_written_and_read_as_ever() {
    let key = Key::new("configuration/c");
    let full = json!({
        "schemaVersion": "1.0", "contentType": "assignment", "labels": {"team": "x"}, "priority": 10,
        "content": {"deviceContent": {"properties.desired.mode": "eco"}}, "targetCondition": "tags.site='a'",
        "metrics": {"queries": {"ok": "SELECT deviceId FROM devices"}},
    });
    let bare = json!({
        "content": {"modulesContent": {"$edgeAgent": {"properties.desired": {}}}}, "targetCondition": "*",
    });
    for (fixture, spec, [counter, created, updated, content_updated]) in
        [(CONFIGURATION_FULL, full, [3, 1, 5, 2]), (CONFIGURATION_BARE, bare, [1, 1, 1, 1])]
    {
        let at = |seconds: u64| Timestamp::from_seconds(i64::try_from(seconds).expect("a few"));
        let revision = Revision {
            counter,
            created: at(created),
            updated: at(updated),
            content_updated: at(content_updated),
        };
        let spec = ConfigurationSpec::parse(configuration("c"), &spec).expect("valid");
        let expected = Configuration::new(spec, revision);
        assert_eq!(configuration::decode(&key, &row(fixture)).expect("a row that is read"), expected);
        let written = configuration::encode(&expected);
        assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&row(fixture)));
    }
    for (good, bad) in
        [("tags.site='a'", "tags.site="), ("desired.mode", "reported.mode"), ("SELECT", "SELCT")]
    {
        let damaged = CONFIGURATION_FULL.replacen(good, bad, 1);
        let error = configuration::decode(&key, &row(&damaged)).expect_err(bad).to_string();
        assert!(error.contains("is not valid") && !error.contains("eco"), "{error}");
    }
}

/// Events from before they told by whom.
const EVENTS_UNSIGNED: [&str; 2] = [
    r#"{"time":50000000,"device":"d","kind":"twin","replaced":false,"body":{"tags":{"site":"a"},"version":3}}"#,
    r#"{"time":50000000,"device":"d","module":"m","kind":"lifecycle","created":true,"body":{"deviceId":"d"}}"#,
];

/// Events that tell by whom, and what was before and is after.
const EVENTS_SIGNED: [&str; 3] = [
    r#"{"time":50000000,"device":"d","kind":"twin","replaced":false,"body":{"version":3},"actor":"policy:service","changes":[{"path":"tags.site","before":"b","after":"a"},{"path":"tags.ring","before":{}}],"more":true}"#,
    r#"{"time":50000000,"device":"d","kind":"twin","replaced":false,"body":{"version":3},"actor":"configuration:cfg-a","changes":[{"path":"properties.desired.rate","after":5,"configuration":"cfg-a"}]}"#,
    r#"{"time":50000000,"device":"d","module":"m","kind":"lifecycle","created":true,"body":{"deviceId":"d"},"actor":"hub"}"#,
];

const EVENT_OVERRIDE: &str = r#"{"time":50000000,"device":"d","kind":"override","job":"j","reason":"now","closed":["power.batteryLow"],"actor":"policy:service"}"#;

#[test]
fn events_are_written_and_read_as_ever() {
    let key = crate::keys::RowKey::Event(Position { commit: 7, place: 0 }).to_key();
    let read = |fixture: &str| {
        let (position, event) = event::decode(&key, &row(fixture)).expect("a row that is read");
        assert_eq!(position, Position { commit: 7, place: 0 });
        assert_eq!(String::from_utf8_lossy(&event::encode(&event)), String::from_utf8_lossy(&row(fixture)));
        event.kind
    };
    for fixture in EVENTS_UNSIGNED {
        match read(fixture) {
            EventKind::Twin { actor, changes, .. } => {
                assert_eq!((actor, changes), (None, PathChanges::default()));
            }
            EventKind::Lifecycle { actor, .. } => assert_eq!(actor, None),
            other => panic!("{other:?}"),
        }
    }
    let [by_policy, by_configuration, by_hub] = EVENTS_SIGNED.map(read);
    let change = |path: &str, before: Option<Value>, after: Option<Value>, by: Option<&str>| PathChange {
        path: path.into(),
        before,
        after,
        configuration: by.map(configuration),
    };
    let twin = |actor: Actor, paths: Vec<PathChange>, more: bool| EventKind::Twin {
        replaced: false,
        body: json!({"version": 3}),
        actor: Some(actor),
        changes: PathChanges { paths, more },
    };
    let site = change("tags.site", Some(json!("b")), Some(json!("a")), None);
    let ring = change("tags.ring", Some(json!({})), None, None);
    assert_eq!(by_policy, twin(Actor::Policy("service".into()), vec![site, ring], true));
    let rate = change("properties.desired.rate", None, Some(json!(5)), Some("cfg-a"));
    assert_eq!(by_configuration, twin(Actor::Configuration(configuration("cfg-a")), vec![rate], false));
    let body = json!({"deviceId": "d"});
    assert_eq!(
        by_hub,
        EventKind::Lifecycle {
            step: LifecycleStep::Created,
            body: LifecycleBody::Document(body),
            actor: Some(Actor::Hub)
        }
    );
    let by_configuration = read(&EVENT_OVERRIDE.replace(r#""job":"j""#, r#""configuration":"cfg-a""#));
    let EventKind::Override { gates_of, .. } = by_configuration else { panic!("{by_configuration:?}") };
    assert_eq!(gates_of, GatesOf::Configuration(configuration("cfg-a")));
    assert!(event::decode(&key, &row(&EVENT_OVERRIDE.replace(r#""job":"j","#, ""))).is_err());
    let by_job = read(EVENT_OVERRIDE);
    let closed = vec!["power.batteryLow".into()];
    let (job, actor) = (JobId::parse("j").expect("a name"), Actor::Policy("service".into()));
    assert_eq!(
        by_job,
        EventKind::Override { gates_of: GatesOf::Job(job), reason: "now".into(), closed, actor }
    );
    for bad in [r#""actor":"nobody:x""#, r#""changes":[{"path":"a","configuration":"A"}]"#] {
        let text = EVENTS_UNSIGNED[0].replace(r#""replaced":false"#, &format!(r#""replaced":false,{bad}"#));
        assert!(event::decode(&key, &row(&text)).is_err(), "{bad}");
    }
}

/// What comes before the packed twin in an event of the second format.
const EVENT_PACKED: &str =
    r#"{"time":50000000,"device":"d","kind":"lifecycle","created":true,"actor":"hub"}"#;

#[test]
fn events_of_whole_twins_are_written_and_read() {
    let key = crate::keys::RowKey::Event(Position { commit: 7, place: 0 }).to_key();
    let packed = bytes(PACKED_PLAIN)[1..].to_vec();
    let row = |record: &str, twin: &[u8]| [&[2], record.as_bytes(), twin].concat();
    let id = TwinId::parse("d", None).expect("an id");
    let body = LifecycleBody::Twin(PackedTwin::new(&plain_twin()));
    let kind = EventKind::Lifecycle { step: LifecycleStep::Created, body, actor: Some(Actor::Hub) };
    let event = Event { time: Timestamp::from_seconds(5), id, kind };
    let fixture = row(EVENT_PACKED, &packed);
    assert_eq!(event::encode(&event).escape_ascii().to_string(), fixture.escape_ascii().to_string());
    assert_eq!(event::decode(&key, &fixture).expect("a row that is read").1, event);
    let EventKind::Lifecycle { body, .. } = event.kind else { panic!("it tells of a life") };
    assert_eq!(body.document(&event.id), plain_twin().short_document(&event.id));
    let connection = r#"{"time":50000000,"device":"d","kind":"connection","connected":true}"#;
    for (bad, told) in [
        (row(EVENT_PACKED, &packed[..9]), "not a packed twin"),
        (row(EVENT_PACKED, b""), "not a packed twin"),
        (row(&EVENT_PACKED[..20], &packed), "byte"),
        (row("", b""), "missing"),
        (self::row(EVENT_PACKED), "body"),
        (row(connection, &packed), "tells of no twin"),
    ] {
        let error = event::decode(&key, &bad).expect_err(told).to_string();
        assert!(error.contains(told), "{error}");
    }
}

/// A job of device management, and a target of it that took the action.
const JOB_MANAGED: &str = r#"{"action":{"kind":"manage","type":"readDeviceProperties","parameters":{"properties":["a.b"]},"waitForDevices":true},"condition":"*","created":10000000,"start":20000000,"secondsMax":3600,"deviceSeconds":60}"#;
const ITEM_ACTED: &str = r#"{"status":"running","created":10000000,"started":20000000,"answer":[200,"{}"],"acted":30000000,"before":7,"version":3}"#;
/// Jobs that retire devices, by a list and by a condition.
const JOB_RETIRES: &str = r#"{"action":{"kind":"retire","reason":"old","restorableSeconds":0,"erase":{"name":"wipe","payload":"null","responseSeconds":5,"connectSeconds":0},"force":true,"waitForDevices":false},"condition":"*","listed":["a","b"],"created":10000000,"start":10000000,"secondsMax":3600}"#;
const JOB_BRINGS_BACK: &str = r#"{"action":{"kind":"restoreDevice"},"condition":"*","created":10000000,"start":10000000,"secondsMax":3600,"undoes":"a"}"#;
const JOB_CALLS: &str = r#"{"action":{"kind":"callMethod","name":"go","payload":"{}","responseSeconds":30,"connectSeconds":0,"waitForDevices":false},"condition":"*","created":10000000,"start":10000000,"secondsMax":3600}"#;
/// Rows from before there was device management.
const JOB_PLAIN: &str = r#"{"action":{"kind":"patchTwin","desired":{"a":1}},"condition":"*","created":10000000,"start":10000000,"secondsMax":3600}"#;
const ITEM_PLAIN: &str = r#"{"status":"failed","created":10000000,"started":20000000,"ended":30000000,"error":["404103","offline"]}"#;

#[test]
fn jobs_and_targets_are_written_and_read_as_ever() {
    let key = Key::new("job/j");
    for fixture in [JOB_MANAGED, JOB_RETIRES, JOB_BRINGS_BACK, JOB_CALLS, JOB_PLAIN] {
        let spec = job::decode_spec(&key, &row(fixture)).expect("a row that is read");
        assert_eq!(String::from_utf8_lossy(&job::encode_spec(&spec)), String::from_utf8_lossy(&row(fixture)));
    }
    let key = crate::keys::RowKey::JobItem(
        hub_domain::id::JobId::parse("j").expect("an id"),
        hub_domain::id::TwinId::parse("d", None).expect("an id"),
    );
    for fixture in [ITEM_ACTED, ITEM_PLAIN] {
        let (_, item) = job::decode_item(&key.to_key(), &row(fixture)).expect("a row that is read");
        assert_eq!(String::from_utf8_lossy(&job::encode_item(&item)), String::from_utf8_lossy(&row(fixture)));
    }
}

const TRANSFER_FULL: &str = r#"{"kind":"import","created":10000000,"actor":"policy:iothubowner","input":"https://a.b/in?sig=x","inputBlob":"devices.txt","output":"https://a.b/out","outputBlob":"devices.txt","excludeKeys":false,"configurations":"configurations.txt","status":"failed","failure":"why","started":20000000,"ended":50000000,"inputVersion":"v1","counts":[3,4]}"#;

const TRANSFER_BARE: &str = r#"{"kind":"export","created":10000000,"actor":"hub","inputBlob":"","output":"file:///srv","outputBlob":"b","excludeKeys":true,"status":"queued","counts":[0,0]}"#;

const TRANSFER_NOTE: &str = r#"{"lines":[[1,99],[101,101]],"refused":[{"line":7,"subject":"d","module":"m","code":404010,"text":"why"},{"line":8,"code":400006,"text":"no JSON"}]}"#;

#[test]
fn transfers_are_written_and_read_as_ever() {
    let key = Key::new("transfer/j");
    let at = Timestamp::from_seconds;
    let full = (
        TransferSpec {
            id: JobId::parse("j").expect("an id"),
            kind: TransferKind::Import,
            created: at(1),
            actor: Actor::Policy("iothubowner".into()),
            input: Some("https://a.b/in?sig=x".into()),
            input_blob: "devices.txt".into(),
            output: "https://a.b/out".into(),
            output_blob: "devices.txt".into(),
            exclude_keys: false,
            configurations: Some("configurations.txt".into()),
        },
        TransferState {
            status: JobStatus::Failed,
            failure: Some("why".into()),
            started: Some(at(2)),
            ended: Some(at(5)),
            input_version: Some("v1".into()),
            counts: TransferCounts { done: 3, failed: 4 },
        },
    );
    let mut bare = (full.0.clone(), TransferState::default());
    bare.0.kind = TransferKind::Export;
    bare.0.actor = Actor::Hub;
    bare.0.exclude_keys = true;
    (bare.0.input, bare.0.configurations) = (None, None);
    (bare.0.input_blob, bare.0.output, bare.0.output_blob) = ("".into(), "file:///srv".into(), "b".into());
    for (fixture, (spec, state)) in [(TRANSFER_FULL, full), (TRANSFER_BARE, bare)] {
        let read = transfer::decode(&key, &row(fixture)).expect("a row that is read");
        assert_eq!(read, (spec.clone(), state.clone()));
        let written = transfer::encode(&spec, &state);
        assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&row(fixture)));
    }
    for (good, bad) in [("import", "move"), ("policy:", "x:"), ("failed", "lost")] {
        let damaged = TRANSFER_FULL.replacen(good, bad, 1);
        let error = transfer::decode(&key, &row(&damaged)).expect_err(bad).to_string();
        assert!(error.contains("is not valid") && !error.contains("sig"), "{error}");
    }
}

#[test]
fn notes_of_transfers_are_written_and_read_as_ever() {
    let key = Key::new("transfer-note/j/0000000000000001");
    let (job, note) = transfer::decode_note(&key, &row(TRANSFER_NOTE)).expect("a row that is read");
    assert_eq!((job.as_str(), note.lines.ranges()), ("j", [(1, 99), (101, 101)].as_slice()));
    let refused = |line, subject: &str, module: &str, code, text: &str| Refusal {
        line,
        subject: subject.into(),
        module: module.into(),
        code,
        text: text.into(),
    };
    assert_eq!(note.refused, [refused(7, "d", "m", 404_010, "why"), refused(8, "", "", 400_006, "no JSON")]);
    let written = transfer::encode_note(&note);
    assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&row(TRANSFER_NOTE)));
    let damaged = TRANSFER_NOTE.replacen("[1,99]", "[99,1]", 1);
    assert!(transfer::decode_note(&key, &row(&damaged)).is_err());
}

/// A device that can be restored, and one of which nothing is left.
const RETIRED: [&str; 2] = [
    r#"{"generation":"17","at":50000000,"by":"policy:ops","restorableUntil":60000000,"lastActivity":40000000,"modules":2}"#,
    r#"{"generation":"17","at":50000000,"by":"job:ring-1","reason":"worn out","restorableUntil":60000000,"replacedBy":"pump-18","receipt":{"erasedAt":"2026-05-04T08:15:30Z","nonce":"n","signature":"s"},"unproven":"it was offline","lastActivity":40000000,"modules":0,"erasure":{"begun":60000000,"by":"hub","identities":1,"twins":1,"events":7,"jobRecords":2,"ended":[70000000,"0000000000000000000000000000000000000000000000000000000000000000"]},"released":80000000}"#,
];

#[test]
fn retirements_are_written_and_read_as_ever() {
    let key = Key::new("retired/pump-17");
    let [restorable, released] = RETIRED.map(|fixture| {
        let read = retirement::decode(&key, &row(fixture)).expect("a row that is read");
        assert_eq!(
            String::from_utf8_lossy(&retirement::encode(&read)),
            String::from_utf8_lossy(&row(fixture))
        );
        read
    });
    assert_eq!((restorable.device.as_str(), restorable.modules, restorable.reason), ("pump-17", 2, None));
    let erasure = released.erasure.expect("it was erased");
    assert_eq!((erasure.removed.events, erasure.by), (7, Actor::Hub));
    assert_eq!(released.released, Some(Timestamp::from_seconds(8)));
    for (good, bad) in [("job:ring-1", "nobody:x"), ("pump-18", "p 18"), ("\"0000", "\"x000")] {
        let damaged = RETIRED[1].replacen(good, bad, 1);
        assert_ne!(damaged, RETIRED[1], "{good}");
        let error = retirement::decode(&key, &row(&damaged)).expect_err(bad).to_string();
        assert!(error.contains("is not valid") && !error.contains("worn out"), "{error}");
    }
    let key = Key::new("predecessors/pump-18");
    let fixture = r#"[{"device":"pump-17","generation":"17","at":50000000,"by":"policy:ops"}]"#;
    let read = retirement::decode_predecessors(&key, &row(fixture)).expect("a row that is read");
    assert_eq!((read.len(), read[0].device.as_str()), (1, "pump-17"));
    assert_eq!(retirement::encode_predecessors(&read), row(fixture));
    let retired = r#"{"time":50000000,"device":"d","kind":"lifecycle","created":false,"step":"retireDeviceIdentity","body":{},"actor":"hub"}"#;
    let key = crate::keys::RowKey::Event(Position { commit: 7, place: 0 }).to_key();
    let (_, event) = event::decode(&key, &row(retired)).expect("a row that is read");
    assert_eq!(event::encode(&event), row(retired));
    assert!(event::decode(&key, &row(&retired.replace("retireDevice", "x"))).is_err());
}
