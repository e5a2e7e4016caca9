//! The key grammar, in one place: `RowKey` printed as bytes and parsed back, and the ranges of each table.
//! Ids contain neither `/` nor a zero byte (`hub_domain::id` sees to that), so `/` ends them and nothing is escaped.
//! Nothing of the grammar may appear anywhere else: who needs a key asks here, and who reads one parses it here.

use hub_domain::artifact::Digest;
use hub_domain::event::Position;
use hub_domain::id::{ConfigurationId, DeviceId, JobId, ModuleId, TwinId};

use crate::{Commit, Key, KeyRange};

const DEVICE: &str = "device/";
const MODULE: &str = "module/";
const TWIN: &str = "twin/";
const MODULE_TWIN: &str = "module-twin/";
const SESSION: &str = "session/";
const ARTIFACT: &str = "artifact/";
const CONFIGURATION: &str = "configuration/";
const JOB: &str = "job/";
const JOB_STATE: &str = "job-state/";
const JOB_ITEM: &str = "job-item/";
const TRANSFER: &str = "transfer/";
const TRANSFER_NOTE: &str = "transfer-note/";
const RETIRED: &str = "retired/";
const RETIRED_IDENTITY: &str = "retired-identity/";
const RETIRED_TWIN: &str = "retired-twin/";
const PREDECESSORS: &str = "predecessors/";
const META: &str = "meta/";
const LOG: &str = "log/";

/// What a key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowKey {
    /// The registry's entry: `device/{device}` or `module/{device}/{module}`.
    Identity(TwinId),
    /// `twin/{device}` or `module-twin/{device}/{module}`.
    Twin(TwinId),
    /// `session/{device}` or `session/{device}/{module}`.
    Session(TwinId),
    /// `artifact/{sha-256 in hexadecimal digits}`.
    Artifact(Digest),
    /// `configuration/{configuration}`.
    Configuration(ConfigurationId),
    /// What was asked of a job: `job/{job}`.
    Job(JobId),
    /// Where a job stands: `job-state/{job}`.
    JobState(JobId),
    /// A target of a job: `job-item/{job}/{device}` or `job-item/{job}/{device}/{module}`.
    JobItem(JobId, TwinId),
    /// An import or export job: `transfer/{job}`.
    Transfer(JobId),
    /// What a commit of an import job settled: `transfer-note/{job}/{first line, 16 hexadecimal digits}`.
    TransferNote(JobId, u64),
    /// The record of a retired device: `retired/{device}`.
    Retired(DeviceId),
    /// An archived identity: `retired-identity/{device}` or `retired-identity/{device}/{module}`.
    RetiredIdentity(TwinId),
    /// An archived twin: `retired-twin/{device}` or `retired-twin/{device}/{module}`.
    RetiredTwin(TwinId),
    /// The devices in whose place a device came: `predecessors/{device}`.
    Predecessors(DeviceId),
    /// A single value of the hub: `meta/{name}`, name in `a-z` and `-`.
    Meta(String),
    /// `log/{commit number, 8 bytes}/{index in its batch, 4 bytes}`, both big endian.
    Event(Position),
}

impl RowKey {
    /// The key as bytes.
    pub fn to_key(&self) -> Key {
        match self {
            RowKey::Identity(id) => of_id(DEVICE, MODULE, id),
            RowKey::Twin(id) => of_id(TWIN, MODULE_TWIN, id),
            RowKey::Session(id) => of_id(SESSION, SESSION, id),
            RowKey::Artifact(digest) => text(&[ARTIFACT, digest.as_str()]),
            RowKey::Configuration(id) => text(&[CONFIGURATION, id.as_str()]),
            RowKey::Job(id) => text(&[JOB, id.as_str()]),
            RowKey::JobState(id) => text(&[JOB_STATE, id.as_str()]),
            RowKey::JobItem(job, id) => text(&[JOB_ITEM, job.as_str(), "/", &id.to_string()]),
            RowKey::Transfer(id) => text(&[TRANSFER, id.as_str()]),
            RowKey::TransferNote(job, line) => {
                text(&[TRANSFER_NOTE, job.as_str(), "/", &format!("{line:016x}")])
            }
            RowKey::Retired(device) => text(&[RETIRED, device.as_str()]),
            RowKey::RetiredIdentity(id) => of_id(RETIRED_IDENTITY, RETIRED_IDENTITY, id),
            RowKey::RetiredTwin(id) => of_id(RETIRED_TWIN, RETIRED_TWIN, id),
            RowKey::Predecessors(device) => text(&[PREDECESSORS, device.as_str()]),
            RowKey::Meta(name) => text(&[META, name]),
            RowKey::Event(position) => log(Commit(position.commit), position.place),
        }
    }

    /// What `key` names; `None` when it is not of this grammar.
    pub fn parse(key: &Key) -> Option<RowKey> {
        if let Some(rest) = key.as_bytes().strip_prefix(LOG.as_bytes()) {
            return parse_position(rest).map(RowKey::Event);
        }
        let text = std::str::from_utf8(key.as_bytes()).ok()?;
        let at = text.find('/')? + 1;
        let (prefix, rest) = text.split_at(at);
        match prefix {
            DEVICE => parse_id(rest, Some(false)).map(RowKey::Identity),
            MODULE => parse_id(rest, Some(true)).map(RowKey::Identity),
            TWIN => parse_id(rest, Some(false)).map(RowKey::Twin),
            MODULE_TWIN => parse_id(rest, Some(true)).map(RowKey::Twin),
            SESSION => parse_id(rest, None).map(RowKey::Session),
            // The digest's own spelling is the only one: another case would be a second key for it.
            ARTIFACT => Digest::parse(rest).filter(|digest| digest.as_str() == rest).map(RowKey::Artifact),
            CONFIGURATION => ConfigurationId::parse(rest).ok().map(RowKey::Configuration),
            JOB => JobId::parse(rest).ok().map(RowKey::Job),
            JOB_STATE => JobId::parse(rest).ok().map(RowKey::JobState),
            JOB_ITEM => {
                let (job, id) = rest.split_once('/')?;
                Some(RowKey::JobItem(JobId::parse(job).ok()?, parse_id(id, None)?))
            }
            TRANSFER => JobId::parse(rest).ok().map(RowKey::Transfer),
            TRANSFER_NOTE => {
                let (job, line) = rest.split_once('/')?;
                Some(RowKey::TransferNote(JobId::parse(job).ok()?, parse_line(line)?))
            }
            RETIRED => DeviceId::parse(rest).ok().map(RowKey::Retired),
            RETIRED_IDENTITY => parse_id(rest, None).map(RowKey::RetiredIdentity),
            RETIRED_TWIN => parse_id(rest, None).map(RowKey::RetiredTwin),
            PREDECESSORS => DeviceId::parse(rest).ok().map(RowKey::Predecessors),
            META => is_meta_name(rest).then(|| RowKey::Meta(rest.to_owned())),
            _ => None,
        }
    }
}

/// The row of the event log that the `index`th append of `commit` gets.
pub fn log(commit: Commit, index: u32) -> Key {
    let mut key = Vec::with_capacity(LOG.len() + 13);
    key.extend_from_slice(LOG.as_bytes());
    key.extend_from_slice(&commit.0.to_be_bytes());
    key.push(b'/');
    key.extend_from_slice(&index.to_be_bytes());
    Key::new(key)
}

/// Every device's identity.
pub fn devices() -> KeyRange {
    KeyRange::prefix(DEVICE.as_bytes())
}

/// Every module's identity.
pub fn modules() -> KeyRange {
    KeyRange::prefix(MODULE.as_bytes())
}

/// The identities of one device's modules.
pub fn modules_of(device: &DeviceId) -> KeyRange {
    KeyRange::prefix(text(&[MODULE, device.as_str(), "/"]).as_bytes())
}

/// Every device's twin.
pub fn device_twins() -> KeyRange {
    KeyRange::prefix(TWIN.as_bytes())
}

/// Every module's twin.
pub fn module_twins() -> KeyRange {
    KeyRange::prefix(MODULE_TWIN.as_bytes())
}

/// Every stored session.
pub fn sessions() -> KeyRange {
    KeyRange::prefix(SESSION.as_bytes())
}

/// Every configuration.
pub fn configurations() -> KeyRange {
    KeyRange::prefix(CONFIGURATION.as_bytes())
}

/// Every artifact.
pub fn artifacts() -> KeyRange {
    KeyRange::prefix(ARTIFACT.as_bytes())
}

/// Every job.
pub fn jobs() -> KeyRange {
    KeyRange::prefix(JOB.as_bytes())
}

/// Every job behind the one with this name.
pub fn jobs_after(id: &JobId) -> KeyRange {
    jobs().from(RowKey::Job(id.clone()).to_key().successor())
}

/// This job and every one behind it.
pub fn jobs_from(id: &JobId) -> KeyRange {
    jobs().from(RowKey::Job(id.clone()).to_key())
}

/// The targets of one job that are this device or its modules: a range for the device, and one for the modules.
pub fn job_items_of(job: &JobId, device: &DeviceId) -> [KeyRange; 2] {
    own_and_modules(
        RowKey::JobItem(job.clone(), TwinId::device(device.clone())).to_key(),
        text(&[JOB_ITEM, job.as_str(), "/", device.as_str(), "/"]),
    )
}

/// Every retired device's record.
pub fn retired() -> KeyRange {
    KeyRange::prefix(RETIRED.as_bytes())
}

/// The record of one device.
pub fn retired_one(device: &DeviceId) -> KeyRange {
    let key = RowKey::Retired(device.clone()).to_key();
    KeyRange::between(key.clone(), key.successor())
}

/// The records behind that of this device.
pub fn retired_after(device: &DeviceId) -> KeyRange {
    retired().from(RowKey::Retired(device.clone()).to_key().successor())
}

/// The archived identities of a device and its modules: a range for the device, and one for the modules.
pub fn retired_identities_of(device: &DeviceId) -> [KeyRange; 2] {
    own_and_modules(
        RowKey::RetiredIdentity(TwinId::device(device.clone())).to_key(),
        text(&[RETIRED_IDENTITY, device.as_str(), "/"]),
    )
}

/// The archived twins of a device and its modules: a range for the device, and one for the modules.
pub fn retired_twins_of(device: &DeviceId) -> [KeyRange; 2] {
    own_and_modules(
        RowKey::RetiredTwin(TwinId::device(device.clone())).to_key(),
        text(&[RETIRED_TWIN, device.as_str(), "/"]),
    )
}

/// One key, and all that begin with `modules`: in between there are other devices.
fn own_and_modules(own: Key, modules: Key) -> [KeyRange; 2] {
    [KeyRange::between(own.clone(), own.successor()), KeyRange::prefix(modules.as_bytes())]
}

/// The targets of one job.
pub fn job_items(job: &JobId) -> KeyRange {
    KeyRange::prefix(text(&[JOB_ITEM, job.as_str(), "/"]).as_bytes())
}

/// The targets of one job behind this one.
pub fn job_items_after(job: &JobId, id: &TwinId) -> KeyRange {
    job_items(job).from(RowKey::JobItem(job.clone(), id.clone()).to_key().successor())
}

/// Every import and export job.
pub fn transfers() -> KeyRange {
    KeyRange::prefix(TRANSFER.as_bytes())
}

/// The notes of one import job.
pub fn transfer_notes(job: &JobId) -> KeyRange {
    KeyRange::prefix(text(&[TRANSFER_NOTE, job.as_str(), "/"]).as_bytes())
}

/// The event log.
pub fn events() -> KeyRange {
    KeyRange::prefix(LOG.as_bytes())
}

/// The event log behind `position`.
pub fn events_after(position: Position) -> KeyRange {
    events().from(log(Commit(position.commit), position.place).successor())
}

fn text(parts: &[&str]) -> Key {
    Key::new(parts.concat())
}

fn of_id(device_prefix: &str, module_prefix: &str, id: &TwinId) -> Key {
    match &id.module {
        None => text(&[device_prefix, id.device.as_str()]),
        Some(module) => text(&[module_prefix, id.device.as_str(), "/", module.as_str()]),
    }
}

fn parse_id(text: &str, module_wanted: Option<bool>) -> Option<TwinId> {
    let (device, module) = match text.split_once('/') {
        Some((device, module)) => (device, Some(ModuleId::parse(module).ok()?)),
        None => (text, None),
    };
    let id = TwinId { device: DeviceId::parse(device).ok()?, module };
    module_wanted.is_none_or(|wanted| wanted == id.is_module()).then_some(id)
}

/// 16 digits in the one spelling that is printed.
fn parse_line(text: &str) -> Option<u64> {
    let plain = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    u64::from_str_radix(text, 16).ok().filter(|_| plain)
}

fn parse_position(rest: &[u8]) -> Option<Position> {
    let (commit, rest) = rest.split_first_chunk()?;
    let (slash, place) = rest.split_first()?;
    let place = place.try_into().ok()?;
    (*slash == b'/')
        .then_some(Position { commit: u64::from_be_bytes(*commit), place: u32::from_be_bytes(place) })
}

fn is_meta_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = r"[A-Za-z0-9\-.%_*?!(),:=@$']{1,128}";

    fn row_key() -> impl Strategy<Value = RowKey> {
        let id = (ID, proptest::option::of(ID))
            .prop_map(|(device, module)| TwinId::parse(&device, module.as_deref()).expect("a valid id"));
        prop_oneof![
            id.clone().prop_map(RowKey::Identity),
            id.clone().prop_map(RowKey::Twin),
            id.clone().prop_map(RowKey::Session),
            r"[a-z0-9\-.%_*?!(),:=@$'+#;~`]{1,128}".prop_map(|configuration| {
                RowKey::Configuration(ConfigurationId::parse(&configuration).expect("a valid id"))
            }),
            ID.prop_map(|job| RowKey::Job(JobId::parse(&job).expect("a valid id"))),
            ID.prop_map(|job| RowKey::JobState(JobId::parse(&job).expect("a valid id"))),
            (ID, id.clone())
                .prop_map(|(job, id)| RowKey::JobItem(JobId::parse(&job).expect("a valid id"), id)),
            ID.prop_map(|job| RowKey::Transfer(JobId::parse(&job).expect("a valid id"))),
            (ID, any::<u64>()).prop_map(|(job, line)| {
                RowKey::TransferNote(JobId::parse(&job).expect("a valid id"), line)
            }),
            id.clone().prop_map(RowKey::RetiredIdentity),
            id.clone().prop_map(RowKey::RetiredTwin),
            id.clone().prop_map(|id| RowKey::Retired(id.device)),
            id.clone().prop_map(|id| RowKey::Predecessors(id.device)),
            any::<[u8; 32]>().prop_map(|bytes| RowKey::Artifact(Digest::from_bytes(&bytes))),
            "[a-z-]{1,20}".prop_map(RowKey::Meta),
            any::<(u64, u32)>().prop_map(|(commit, place)| RowKey::Event(Position { commit, place })),
        ]
    }

    proptest! {
        #[test]
        fn print_and_parse_are_inverse(row_key in row_key()) {
            prop_assert_eq!(RowKey::parse(&row_key.to_key()), Some(row_key));
        }

        #[test]
        fn parse_and_print_are_inverse(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..40),
                r"(device|module|twin|module-twin|session|artifact|configuration|job|job-state|job-item|transfer|transfer-note|retired|retired-identity|retired-twin|predecessors|meta|log)/[a-z/\-]{0,12}".prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 10..16).prop_map(|rest| [b"log/", &rest[..]].concat()),
            ]
        ) {
            let key = Key::new(bytes);
            if let Some(parsed) = RowKey::parse(&key) {
                prop_assert_eq!(parsed.to_key(), key);
            }
        }

        #[test]
        fn the_log_is_in_commit_order(a in any::<(u64, u32)>(), b in any::<(u64, u32)>()) {
            prop_assert_eq!(log(Commit(a.0), a.1).cmp(&log(Commit(b.0), b.1)), a.cmp(&b));
        }
    }

    #[test]
    fn keys_look_as_documented() {
        let device = TwinId::parse("d-1", None).expect("an id");
        let module = TwinId::parse("d-1", Some("m")).expect("an id");
        let retired = module.clone();
        for (row_key, printed) in [
            (RowKey::Identity(device.clone()), "device/d-1"),
            (RowKey::Identity(module.clone()), "module/d-1/m"),
            (RowKey::Twin(device.clone()), "twin/d-1"),
            (RowKey::Twin(module.clone()), "module-twin/d-1/m"),
            (RowKey::Session(device), "session/d-1"),
            (RowKey::Session(module), "session/d-1/m"),
            (
                RowKey::Configuration(ConfigurationId::parse("firmware+1").expect("an id")),
                "configuration/firmware+1",
            ),
            (RowKey::Transfer(JobId::parse("j").expect("an id")), "transfer/j"),
            (
                RowKey::TransferNote(JobId::parse("j").expect("an id"), 258),
                "transfer-note/j/0000000000000102",
            ),
            (RowKey::Retired(retired.device.clone()), "retired/d-1"),
            (RowKey::RetiredIdentity(retired.clone()), "retired-identity/d-1/m"),
            (RowKey::RetiredTwin(retired.clone()), "retired-twin/d-1/m"),
            (RowKey::Predecessors(retired.device), "predecessors/d-1"),
            (RowKey::Meta("etag-counter".into()), "meta/etag-counter"),
            (
                RowKey::Event(Position { commit: 258, place: 3 }),
                r"log/\x00\x00\x00\x00\x00\x00\x01\x02/\x00\x00\x00\x03",
            ),
        ] {
            assert_eq!(row_key.to_key().to_string(), printed);
        }
    }

    #[test]
    fn other_keys_are_not_parsed() {
        for bad in [
            "",
            "device",
            "device/",
            "device/a/b",
            "device/ü",
            "module/a",
            "module/a/",
            "module/a/b/c",
            "twin/a/b",
            "module-twin/a",
            "session/",
            "meta/",
            "meta/A",
            "artifact/abc",
            "configuration/",
            "configuration/A",
            "configuration/a/b",
            "log/",
            "log/12345678/123",
            "transfer/",
            "transfer/a/b",
            "transfer-note/a",
            "transfer-note/a/102",
            "transfer-note/a/000000000000010A",
            "transfer-note/a/+000000000000102",
            "other/a",
        ] {
            assert_eq!(RowKey::parse(&Key::new(bad)), None, "{bad}");
        }
        let upper = format!("artifact/{}", "A".repeat(64));
        assert_eq!(RowKey::parse(&Key::new(upper)), None);
    }

    #[test]
    fn ranges_hold_their_own() {
        let id = |device, module| TwinId::parse(device, module).expect("an id");
        let within = |range: &KeyRange, key: &Key| {
            *key >= range.start && range.end.as_ref().is_none_or(|end| key < end)
        };
        let of_d = modules_of(&DeviceId::parse("d").expect("an id"));
        assert!(within(&of_d, &RowKey::Identity(id("d", Some("m"))).to_key()));
        assert!(!within(&of_d, &RowKey::Identity(id("d-2", Some("m"))).to_key()));
        assert!(!within(&device_twins(), &RowKey::Twin(id("d", Some("m"))).to_key()));
        let here = Position { commit: 7, place: 1 };
        let after = events_after(here);
        assert!(!within(&after, &RowKey::Event(here).to_key()));
        assert!(within(&after, &RowKey::Event(Position { commit: 7, place: 2 }).to_key()));
        assert!(within(&after, &RowKey::Event(Position { commit: u64::MAX, place: u32::MAX }).to_key()));
        assert!(!within(&after, &RowKey::Meta("a".into()).to_key()));
    }
}
