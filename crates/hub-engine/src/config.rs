//! Settings of the engine; the binary fills them in.

use std::time::Duration;

use hub_container::ContainerPolicy;

/// How the hub behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Names under which clients know the hub; tokens must name one of them. The first is the hub's own.
    pub hostnames: Vec<String>,
    /// How long events are kept.
    pub event_retention: Duration,
    /// How many commits back events are kept at most; bounds the log whatever the rate.
    pub event_commits_max: u64,
    /// How long a job and what became of its targets are kept after its end.
    pub job_retention: Duration,
    /// How long a retired device can be restored, if whoever retires it does not say.
    pub restorable_default: Duration,
    /// Whether the content of a configuration may be changed, which the service never allows.
    pub configuration_content_editable: bool,
    /// Which containers import and export jobs may use.
    pub containers: ContainerPolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hostnames: vec!["localhost".into()],
            event_retention: Duration::from_secs(24 * 3600),
            event_commits_max: 1_000_000,
            job_retention: Duration::from_secs(30 * 24 * 3600),
            restorable_default: RESTORABLE_DEFAULT,
            configuration_content_editable: false,
            containers: ContainerPolicy::default(),
        }
    }
}

/// Downlinks that wait for one connection; a device that lets more pile up is cut off.
pub const SESSION_QUEUE_MAX: usize = 64;
/// Pages of twins that are decoded, or waiting for it, while the hub starts.
pub const OPEN_PAGES_AHEAD: usize = 8;
/// Commits that wait to be handed to the store; who comes later waits before the queue.
pub const COMMITS_QUEUED_MAX: usize = 4096;
/// Commits at once that tell of devices that come, go and subscribe. Enough to fill a group while the disk syncs the one before.
pub const SESSION_COMMITS_MAX: usize = 64;
/// Commits that the store has, or that wait to be visible.
pub const COMMITS_UNDER_WAY_MAX: usize = 8192;
/// Method calls that wait for one device's answer.
pub const METHOD_CALLS_PER_DEVICE_MAX: usize = 32;
/// Method calls that wait on the whole hub, for an answer or for a device to come.
pub const METHOD_CALLS_MAX: usize = 100_000;
/// How much sooner than asked the hub answers that a device did not: some callers hang up at the very moment (S 5).
pub const METHOD_ANSWER_MARGIN: Duration = Duration::from_millis(20);
/// How often a command looks again when somebody else changed the same thing meanwhile.
pub const COMMIT_ATTEMPTS_MAX: usize = 256;
/// Twins that a sweep looks at before it lets other tasks run.
pub const QUERY_CHUNK_ENTRIES: usize = 256;
/// Configurations that do not target a twin of which an explanation of it tells; those that do are all told.
pub const EXPLAIN_CONFIGURATIONS_MAX: usize = 100;
/// Paths of the index of which the status tells how large they are: those given up, then the largest.
pub const STATUS_PATHS_MAX: usize = 20;
/// Queries that stand at the same time.
pub const WATCHES_MAX: usize = 4096;
/// Rows and steps of a standing query that its reader is given at once; they wait in memory until he takes them.
pub const WATCH_PAGE_ROWS: usize = 32;
/// Steps that may wait for each reader of a standing query, however many wait for others.
pub const WATCH_QUEUE_STEPS_SHARE: usize = 8;
/// Steps that may wait for one reader; if there are more he is cut off. Some seconds of a busy fleet.
pub const WATCH_QUEUE_STEPS_MAX: usize = 4096;
/// Steps that may wait for all readers beyond the share of each. A step keeps a twin as it was, some kilobytes.
pub const WATCH_BACKLOG_STEPS_MAX: usize = 32_768;
/// Rows of the event log that one read looks at.
pub const EVENT_SCAN_ROWS_MAX: usize = 1000;
/// How often old events are removed.
pub const EVENT_PRUNE_INTERVAL: Duration = Duration::from_secs(10);
/// Longest life of a link to an artifact.
pub const GRANT_LIFETIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Jobs that run at the same time; more are queued.
pub const JOBS_RUNNING_MAX: usize = 1000;
/// Batches of twins that jobs write at the same time: enough to keep the store busy, few enough that a single write is not
/// behind many.
pub const JOB_TURNS: usize = 2;
/// Targets in one batch of a job. More would make conflicts with writes of devices likelier, and single writes wait longer.
pub const JOB_BATCH_TARGETS: usize = 64;
/// Longest that a batch of a job waits for single calls.
pub const JOB_PATIENCE: Duration = Duration::from_millis(5);
/// Targets that are looked at for the forecast of a rollout; of more than so many every second, third or so on.
pub const JOB_FORECAST_TARGETS: usize = 10_000;
/// How often the moments are looked at at which gates of configurations open by time alone.
pub(crate) const GATES_CLOCK_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest pause between two looks at them.
pub(crate) const GATES_PAUSE_MIN: Duration = Duration::from_millis(10);
/// How long before a proof gates must have been open that were to be found open, in seconds.
pub(crate) const GATES_PROOF_SLACK_SECONDS: i64 = 5;
/// Different maintenance windows, by name and time zone, that a forecast follows; devices with others count as if they had
/// none.
pub(crate) const FORECAST_WINDOWS_MAX: usize = 1000;
/// Targets noted in one batch while a job looks for them.
pub const JOB_FIND_TARGETS: usize = 1000;
/// Method calls of all jobs that wait for an answer.
pub const JOB_CALLS_IN_FLIGHT_MAX: usize = 256;
/// Arrivals of devices that a job has not looked at yet; with more, it looks at all its targets again.
pub const JOB_ARRIVALS_MAX: usize = 65_536;
/// Changed twins that somebody who waits for many has not looked at yet; with more, he looks at all of his again.
pub const TWIN_CHANGES_MAX: usize = 8192;
/// How long a rollout waits before it looks again at a device that another one has.
pub const JOB_BUSY_PAUSE: Duration = Duration::from_secs(1);
/// Longest sleep before a job looks at the clock again, which may have been set.
pub const JOB_CLOCK_INTERVAL: Duration = Duration::from_secs(1);
/// Jobs in one page of a list.
pub const JOB_LIST_ROWS_MAX: usize = 1000;
/// How often jobs that are kept long enough are removed.
pub const JOB_PRUNE_INTERVAL: Duration = Duration::from_secs(60);
/// Twins that are brought up to a changed configuration in one batch.
pub const CONFIGURE_BATCH_TWINS: usize = 64;
/// How often all twins are compared with what their configurations want, to prove that nothing was missed.
pub const CONFIGURATIONS_PROOF_INTERVAL: Duration = Duration::from_secs(3600);
/// How often the waves of configurations are looked at.
pub const CONFIGURATION_WAVES_INTERVAL: Duration = Duration::from_secs(1);
/// How much longer than a look at them the pause after it is, at least.
pub const CONFIGURATION_WAVES_REST: u32 = 10;
/// Imports at once; each holds its lines in flight and a mark for every identity that it has seen.
pub const IMPORTS_AT_ONCE_MAX: usize = 4;
/// Items of an import in one commit. More would make single writes wait longer.
pub const IMPORT_BATCH_ITEMS: usize = 100;
/// Commits of one import under way: enough that lines are made ready while the disk syncs those before.
pub const IMPORT_BATCHES_IN_FLIGHT: usize = 32;
/// Identities in one import.
pub const IMPORT_ITEMS_MAX: usize = 10_000_000;
/// Tries of a whole batch before its items go one by one.
pub const IMPORT_BATCH_ATTEMPTS_MAX: usize = 3;
/// Exports at once.
pub const EXPORTS_AT_ONCE_MAX: usize = 8;
/// Entries that an export takes from the index at once.
pub const EXPORT_PAGE_ENTRIES: usize = 256;
/// Lines of one import.
pub const IMPORT_LINES_MAX: u64 = 20_000_000;
/// Bytes of one import, unpacked.
pub const IMPORT_BYTES_MAX: u64 = 64 << 30;
/// Bytes of one line of an import.
pub const IMPORT_LINE_BYTES_MAX: usize = 256 * 1024;
/// Lines of configurations in one import job.
pub const IMPORT_CONFIGURATION_LINES_MAX: u64 = 20_000;
/// Bytes of a configuration's line.
pub const IMPORT_CONFIGURATION_LINE_BYTES_MAX: usize = 1024 * 1024;
/// Import and export jobs that run at once; more wait.
pub const TRANSFERS_RUNNING_MAX: usize = 2;
/// Import and export jobs that wait or run; more are refused.
pub const TRANSFERS_UNFINISHED_MAX: usize = 100;
/// Import and export jobs that are kept after their end; the oldest of more are removed.
pub const TRANSFERS_KEPT_MAX: usize = 1000;
/// How long whoever creates an import job waits to hear that its blob is not there.
pub const CONTAINER_CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a retired device can be restored, if no setting and nobody says.
pub const RESTORABLE_DEFAULT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Retired devices in one page of a list.
pub const RETIRED_LIST_ROWS_MAX: usize = 1000;
/// Longest wait of whoever erases a device for the end of it.
pub const ERASE_WAIT_MAX: Duration = Duration::from_secs(20);
/// Devices that are erased in one pass over the event log.
pub const ERASE_BATCH_DEVICES: usize = 256;
/// Longest sleep before the hub looks again whose time is over.
pub const RETIRED_CLOCK_INTERVAL: Duration = Duration::from_secs(1);
