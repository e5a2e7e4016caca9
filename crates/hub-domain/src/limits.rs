//! Every bound of the domain in one place, unit last in the name. Sources: S 2, 4.3, 5, 7 and D 1, 4, 5.

use std::time::Duration;

/// Longest device or module id, in (ASCII) characters.
pub const ID_CHARS_MAX: usize = 128;
/// Longest `statusReason`, in characters.
pub const STATUS_REASON_CHARS_MAX: usize = 128;
/// Modules on one device.
pub const MODULES_PER_DEVICE_MAX: usize = 50;
/// Symmetric keys, in bytes after decoding.
pub const KEY_BYTES_MIN: usize = 16;
/// Symmetric keys, in bytes after decoding.
pub const KEY_BYTES_MAX: usize = 64;
/// Devices in one bulk request.
pub const BULK_DEVICES_MAX: usize = 100;
/// Devices in one answer of the list operation.
pub const DEVICE_LIST_MAX: usize = 1000;

/// Tags of one twin, in bytes as S 4.3 counts them.
pub const TWIN_TAGS_BYTES_MAX: usize = 8 * 1024;
/// Desired or reported section of one twin, in bytes as S 4.3 counts them.
pub const TWIN_SECTION_BYTES_MAX: usize = 32 * 1024;
/// A key within a twin, in bytes.
pub const TWIN_KEY_BYTES_MAX: usize = 1024;
/// A string value within a twin, in bytes.
pub const TWIN_STRING_BYTES_MAX: usize = 4096;
/// Nesting below the root of a section.
pub const TWIN_DEPTH_MAX: usize = 10;
/// Smallest integer within a twin: -(2^52).
pub const TWIN_INTEGER_MIN: i64 = -4_503_599_627_370_496;
/// Largest integer within a twin: 2^52 - 1.
pub const TWIN_INTEGER_MAX: i64 = 4_503_599_627_370_495;
/// Text of one twin patch as received; the sections' own limits are checked after the merge.
pub const TWIN_PATCH_TEXT_BYTES_MAX: usize = 256 * 1024;

/// Longest method name, in characters.
pub const METHOD_NAME_CHARS_MAX: usize = 128;
/// A method's payload, each way, in bytes.
pub const METHOD_PAYLOAD_BYTES_MAX: usize = 128 * 1024;
/// Shortest time a caller may give a device to answer.
pub const METHOD_RESPONSE_MIN: Duration = Duration::from_secs(5);
/// Longest time a caller may give a device to answer.
pub const METHOD_RESPONSE_MAX: Duration = Duration::from_secs(300);
/// Time to answer if the caller names none.
pub const METHOD_RESPONSE_DEFAULT: Duration = Duration::from_secs(30);
/// Longest time to wait for an offline device.
pub const METHOD_CONNECT_MAX: Duration = Duration::from_secs(300);

/// One device-to-cloud message: body, properties and all, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// How long after its expiry a token is still good, because clocks differ (D 7.2).
pub const TOKEN_SKEW: Duration = Duration::from_secs(300);
/// Longest SAS token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// Rows in one page of a query if the caller names no size (S 7.1), and the most it may ask of the compatible route.
pub const QUERY_PAGE_ROWS_MAX: usize = 1000;
/// Rows in one page of a query if the caller names no size (S 7.1).
pub const QUERY_PAGE_ROWS_DEFAULT: usize = 100;

/// How long a job runs at most if its creator names no time (S 6.1).
pub const JOB_EXECUTION_DEFAULT: Duration = Duration::from_secs(3600);
/// Longest time that a job may run.
pub const JOB_EXECUTION_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// How far ahead a job may be set.
pub const JOB_AHEAD_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Configurations of one hub; the service stops at 100 (S 12).
pub const CONFIGURATIONS_MAX: usize = 10_000;
/// The content of one configuration as JSON text, in bytes.
pub const CONFIGURATION_CONTENT_BYTES_MAX: usize = 128 * 1024;
/// Names and texts of the labels of one configuration together, in bytes.
pub const CONFIGURATION_LABELS_BYTES_MAX: usize = 8 * 1024;
/// `schemaVersion`, `contentType` and the name of a metric, in characters.
pub const CONFIGURATION_NAME_CHARS_MAX: usize = 128;
/// Custom metrics of one configuration (S 8.1).
pub const CONFIGURATION_METRICS_MAX: usize = 5;
/// The highest priority (S 8.1).
pub const CONFIGURATION_PRIORITY_MAX: u32 = i32::MAX as u32;
/// Modules of one edge deployment, without the edge agent and the edge hub (S 12).
pub const DEPLOYMENT_MODULES_MAX: usize = 50;

/// A firmware image or other artifact, in bytes.
pub const ARTIFACT_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// An artifact's name, in characters.
pub const ARTIFACT_NAME_CHARS_MAX: usize = 256;

/// Why a device was retired, in characters.
pub const RETIRE_REASON_CHARS_MAX: usize = 512;
/// Longest time in which a retired device can be restored.
pub const RESTORABLE_MAX: Duration = Duration::from_secs(3650 * 24 * 3600);
/// Each text in the receipt of a device that erased itself, in characters.
pub const RECEIPT_FIELD_CHARS_MAX: usize = 256;
/// Devices in whose place a device came, that are remembered.
pub const PREDECESSORS_MAX: usize = 32;

/// Paths whose values before and after one event of a twin tells.
pub const EVENT_CHANGES_MAX: usize = 256;
/// The names of those paths together, in bytes: deep paths repeat what is above them.
pub const EVENT_CHANGES_PATH_BYTES_MAX: usize = 64 * 1024;

/// Writers that a twin remembers of its desired properties.
pub const TWIN_AUTHORS_MAX: usize = 64;

/// Devices that one job names one by one.
pub const JOB_LISTED_DEVICES_MAX: usize = 10_000;
/// Properties that one job reads of each device.
pub const JOB_PROPERTIES_MAX: usize = 100;
