//! Property paths: what a row is asked for. Paths are brought into one spelling while parsing, so that a row
//! implementation is one `match` over [`Root`]. Must never change the spelling of a user's own keys.

use super::ast::Source;

/// Where a path starts. System names match in any case and have one canonical spelling, see [`Root::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Root {
    /// `deviceId`, also written `id`; of twins and of job records.
    DeviceId,
    /// `moduleId`, only of module twins and their job records.
    ModuleId,
    /// `etag` of the twin.
    Etag,
    /// `deviceEtag`, the etag of the identity.
    DeviceEtag,
    /// `status`: `enabled` or `disabled`.
    Status,
    /// `statusReason`.
    StatusReason,
    /// `statusUpdateTime`, as ISO 8601 text.
    StatusUpdateTime,
    /// `connectionState`: `Connected` or `Disconnected`.
    ConnectionState,
    /// `lastActivityTime`, as ISO 8601 text.
    LastActivityTime,
    /// `cloudToDeviceMessageCount`.
    CloudToDeviceMessageCount,
    /// `authenticationType`.
    AuthenticationType,
    /// `x509Thumbprint`; segments `primaryThumbprint`, `secondaryThumbprint`.
    X509Thumbprint,
    /// `modelId`.
    ModelId,
    /// `version` of the twin.
    Version,
    /// `tags`; segments are the user's keys.
    Tags,
    /// `properties` with nothing behind it: both sections.
    Properties,
    /// `properties.desired`; segments are the user's keys, `$version` or `$metadata`.
    Desired,
    /// `properties.reported`; segments as of `Desired`.
    Reported,
    /// `configurations`; segments: a configuration id, then `status`.
    Configurations,
    /// `capabilities`; segment `iotEdge`.
    Capabilities,
    /// `deviceScope`.
    DeviceScope,
    /// `parentScopes`, an array.
    ParentScopes,
    /// `jobId` of a job record.
    JobId,
    /// `jobType` of a job record, also written `type`.
    JobType,
    /// `status` of a job record; compared without regard to case.
    JobStatus,
    /// `startTimeUtc` of a job record.
    StartTimeUtc,
    /// `endTimeUtc` of a job record.
    EndTimeUtc,
    /// `createdDateTimeUtc` of a job record, also written `createdTimeUtc`.
    CreatedDateTimeUtc,
    /// `lastUpdatedDateTimeUtc` of a job record.
    LastUpdatedDateTimeUtc,
    /// `outcome` of a job record; segments e.g. `deviceMethodResponse`, `status`.
    Outcome,
    /// `error` of a job record; segments `code`, `description`.
    Error,
    /// `retirement` of a retired device; segments `time`, `by`, `reason`, `restorableUntil`, `replacedBy`.
    Retirement,
    /// `lastError` of a job record that is tried again; segments as of `Error`.
    LastError,
    /// `progress` of a job record; segments are what the device reports.
    Progress,
    /// `wave` of a job record, from 0.
    Wave,
    /// `notBeforeTimeUtc` of a job record that is tried again.
    NotBeforeTimeUtc,
    /// No such system name: undefined in every row. All names are in the segments.
    Unknown,
}

/// Canonical names of twin roots; a second name for the same root is an alias.
const TWIN_ROOTS: &[(&str, Root)] = &[
    ("deviceId", Root::DeviceId),
    ("id", Root::DeviceId),
    ("moduleId", Root::ModuleId),
    ("etag", Root::Etag),
    ("deviceEtag", Root::DeviceEtag),
    ("status", Root::Status),
    ("statusReason", Root::StatusReason),
    ("statusUpdateTime", Root::StatusUpdateTime),
    ("connectionState", Root::ConnectionState),
    ("lastActivityTime", Root::LastActivityTime),
    ("cloudToDeviceMessageCount", Root::CloudToDeviceMessageCount),
    ("authenticationType", Root::AuthenticationType),
    ("x509Thumbprint", Root::X509Thumbprint),
    ("modelId", Root::ModelId),
    ("version", Root::Version),
    ("tags", Root::Tags),
    ("properties", Root::Properties),
    ("configurations", Root::Configurations),
    ("capabilities", Root::Capabilities),
    ("deviceScope", Root::DeviceScope),
    ("parentScopes", Root::ParentScopes),
];

/// The sections behind `properties`, under their full names.
const SECTION_ROOTS: &[(&str, Root)] =
    &[("properties.desired", Root::Desired), ("properties.reported", Root::Reported)];

/// Canonical names of job record roots; a second name for the same root is an alias.
const JOB_ROOTS: &[(&str, Root)] = &[
    ("deviceId", Root::DeviceId),
    ("id", Root::DeviceId),
    ("moduleId", Root::ModuleId),
    ("jobId", Root::JobId),
    ("jobType", Root::JobType),
    ("type", Root::JobType),
    ("status", Root::JobStatus),
    ("startTimeUtc", Root::StartTimeUtc),
    ("endTimeUtc", Root::EndTimeUtc),
    ("createdDateTimeUtc", Root::CreatedDateTimeUtc),
    ("createdTimeUtc", Root::CreatedDateTimeUtc),
    ("lastUpdatedDateTimeUtc", Root::LastUpdatedDateTimeUtc),
    ("outcome", Root::Outcome),
    ("error", Root::Error),
    ("lastError", Root::LastError),
    ("progress", Root::Progress),
    ("wave", Root::Wave),
    ("notBeforeTimeUtc", Root::NotBeforeTimeUtc),
];

/// What rows of retired devices have beyond those of twins.
const RETIRED_ROOTS: &[(&str, Root)] = &[("retirement", Root::Retirement)];

impl Root {
    /// The canonical spelling, as in the row's document; empty for `Unknown`.
    pub fn name(self) -> &'static str {
        let mut tables = TWIN_ROOTS.iter().chain(SECTION_ROOTS).chain(JOB_ROOTS).chain(RETIRED_ROOTS);
        tables.find(|(_, root)| *root == self).map_or("", |(name, _)| name)
    }

    /// The hub's own names at position `depth` behind this root; anything else there is a user's key.
    fn system_segments(self, depth: usize) -> &'static [&'static str] {
        match (self, depth) {
            (Root::X509Thumbprint, 0) => &["primaryThumbprint", "secondaryThumbprint"],
            (Root::Capabilities, 0) => &["iotEdge"],
            (Root::Configurations, 1) => &["status"],
            (Root::Retirement, 0) => &["time", "by", "reason", "restorableUntil", "replacedBy"],
            (Root::Outcome, 0) => &["deviceMethodResponse", "reported"],
            (Root::Outcome, 1) => &["status", "payload"],
            (Root::Error | Root::LastError, 0) => &["code", "description"],
            // No user's key starts with a dollar sign, so these names are the hub's at any depth.
            (Root::Desired | Root::Reported, _) => &[
                "$version",
                "$metadata",
                "$lastUpdated",
                "$lastUpdatedVersion",
                "$lastUpdatedBy",
                "$lastUpdatedByDigest",
            ],
            _ => &[],
        }
    }
}

/// A property path in canonical form, for example `properties.reported.battery.level`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    root: Root,
    segments: Vec<String>,
}

impl Path {
    /// The path of a whole root.
    pub(super) fn of_root(root: Root) -> Self {
        Self { root, segments: Vec::new() }
    }

    /// Where the path starts.
    pub fn root(&self) -> Root {
        self.root
    }

    /// The names behind the root, outermost first.
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// Where a desired or reported property's section says when it was written last; `None` for anything else.
    pub fn last_updated(&self) -> Option<Self> {
        let is_property = self.segments.first().is_some_and(|first| !first.starts_with('$'));
        if !is_property || !matches!(self.root, Root::Desired | Root::Reported) {
            return None;
        }
        let inner = self.segments.iter().map(String::as_str);
        let segments = ["$metadata"].into_iter().chain(inner).chain(["$lastUpdated"]).map(str::to_owned);
        Some(Self { root: self.root, segments: segments.collect() })
    }

    /// Whether no row can have this.
    pub(super) fn is_unknown(&self) -> bool {
        self.root == Root::Unknown
    }

    /// The key of this path in a projected row: its last name.
    pub(super) fn output_key(&self) -> &str {
        match self.segments.last() {
            Some(segment) => segment,
            None => self.root.name().rsplit('.').next().unwrap_or_default(),
        }
    }

    /// The path that `names` (at least one) stand for in a query over `source`; the error says what would be right.
    pub(super) fn resolve(source: Source, names: Vec<String>) -> Result<Self, String> {
        let prefix = prefix_length(source, &names)?;
        let (root, taken) = find_root(source, &names[prefix..]);
        let segments = names.into_iter().skip(prefix + taken).enumerate();
        let segments = segments.map(|(depth, name)| {
            match root.system_segments(depth).iter().find(|known| known.eq_ignore_ascii_case(&name)) {
                Some(known) => (*known).to_owned(),
                None => name,
            }
        });
        Ok(Self { root, segments: segments.collect() })
    }
}

/// How many of `names` are the prefix `devices.`, `devices.modules.` or `devices.jobs.`; a last name is never one.
fn prefix_length(source: Source, names: &[String]) -> Result<usize, String> {
    let mut length = 0;
    while length + 1 < names.len() && names[length].eq_ignore_ascii_case("devices") {
        length += 1;
        let written = format!("devices.{}", names[length]);
        let others = [Source::DeviceModules, Source::DeviceJobs, Source::RetiredDevices];
        match others.into_iter().find(|other| other.name().eq_ignore_ascii_case(&written)) {
            Some(other) if length + 1 == names.len() && other == source => break,
            Some(other) if other == source => length += 1,
            Some(other) => {
                return Err(format!(
                    "The prefix '{other}.' does not belong to a query FROM {source}: write FROM {other}, or leave \
                     the prefix out"
                ));
            }
            None => {}
        }
    }
    Ok(length)
}

/// The root of `names` and how many of them it takes up.
fn find_root(source: Source, names: &[String]) -> (Root, usize) {
    let (table, more) = match source {
        Source::DeviceJobs => (JOB_ROOTS, [].as_slice()),
        Source::RetiredDevices => (TWIN_ROOTS, RETIRED_ROOTS),
        Source::Devices | Source::DeviceModules => (TWIN_ROOTS, [].as_slice()),
    };
    let first = names.first().map(String::as_str).unwrap_or_default();
    let root =
        table.iter().chain(more).find(|(name, _)| name.eq_ignore_ascii_case(first)).map(|(_, root)| *root);
    match root {
        None => (Root::Unknown, 0),
        Some(Root::Properties) if names.len() > 1 => {
            let full = format!("properties.{}", names[1]);
            let section = SECTION_ROOTS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&full));
            section.map_or((Root::Unknown, 0), |(_, root)| (*root, 2))
        }
        Some(root) => (root, 1),
    }
}
