//! What a command can end with, by what the caller can do about it. Knows no protocol: front ends translate, without a wildcard.

use std::fmt;
use std::time::Duration;

use hub_domain::artifact::Digest;
use hub_domain::configuration::ConfigurationError;
use hub_domain::event::Position;
use hub_domain::id::{ConfigurationId, DeviceId, JobId, TwinId};
use hub_domain::job::JobStatus;
use hub_domain::time::Timestamp;
use hub_store::{CommitError, StoreError};

/// The result of every command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command was not carried out. The text is for the caller; it holds no secret and no cause.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// The caller does not prove who he is.
    Unauthenticated(String),
    /// The caller's own identity is disabled.
    Disabled(TwinId),
    /// The caller is known and may not do this.
    Forbidden(String),
    /// There is no such device, or it is disabled and therefore cannot be reached.
    DeviceNotFound(DeviceId),
    /// There is no such module.
    ModuleNotFound(TwinId),
    /// There is no such policy.
    PolicyNotFound(String),
    /// There is no such artifact.
    ArtifactNotFound(Digest),
    /// There is no such configuration.
    ConfigurationNotFound(ConfigurationId),
    /// A configuration with this id exists.
    ConfigurationExists(ConfigurationId),
    /// There are as many configurations as there may be.
    TooManyConfigurations,
    /// Something in a configuration breaks a rule.
    Configuration(ConfigurationError),
    /// There was no such device, or nothing is known of its end.
    RetirementNotFound(DeviceId),
    /// The device is retired, so its id cannot be used.
    Retired {
        /// Which.
        device: DeviceId,
        /// When it was retired.
        since: Timestamp,
        /// Until when it can be restored, if it can.
        restorable_until: Option<Timestamp>,
    },
    /// It cannot be done as things stand; the text says what would help.
    Conflict(String),
    /// It can never be done again.
    Gone(String),
    /// There is no such job.
    JobNotFound(JobId),
    /// The job has no such target.
    JobTargetNotFound {
        /// The job.
        job: JobId,
        /// Who is none of its targets.
        id: TwinId,
    },
    /// A job with this id exists.
    JobExists(JobId),
    /// It is too late to cancel the job.
    JobOver {
        /// Which.
        id: JobId,
        /// How it ended.
        status: JobStatus,
    },
    /// As many import and export jobs wait or run as may.
    TooManyTransfers,
    /// A container or a blob cannot be used.
    Container(String),
    /// A device with this id exists.
    DeviceExists(DeviceId),
    /// A module with this id exists.
    ModuleExists(TwinId),
    /// It is not at the version that the caller demands.
    PreconditionFailed,
    /// Something in the request breaks a rule; the text says what and where.
    Invalid(String),
    /// A paging token that this hub did not make, or made for another query.
    InvalidContinuation,
    /// Something in the request is larger than allowed.
    TooLarge(String),
    /// The device has as many modules as it may.
    TooManyModules(DeviceId),
    /// More devices in one request than allowed.
    TooManyDevices(usize),
    /// The device is not attached, or takes no methods.
    DeviceOffline {
        /// How long the hub waited for it.
        waited: Duration,
    },
    /// The device went away before it answered.
    DeviceGone,
    /// The device did not answer in time.
    TimedOut {
        /// How long it had.
        after: Duration,
    },
    /// As many calls wait for this device as may.
    TooManyCalls(DeviceId),
    /// The hub has too much of this at once; trying later helps.
    Throttled(String),
    /// Events after this position are no longer kept.
    PositionGone {
        /// From here on they are.
        oldest: Position,
    },
    /// The hub cannot do it now: it stops, or its disk is full.
    Unavailable(String),
    /// Others kept changing the same thing.
    Contended(TwinId),
    /// Our own mistake.
    Internal(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unauthenticated(text) | Error::Forbidden(text) | Error::Invalid(text) => f.write_str(text),
            Error::Container(text) => f.write_str(text),
            Error::TooLarge(text) | Error::Throttled(text) | Error::Unavailable(text) => f.write_str(text),
            Error::Disabled(id) => write!(f, "'{id}' is disabled"),
            Error::DeviceNotFound(id) => write!(f, "device '{id}' is not registered or is disabled"),
            Error::ModuleNotFound(id) => write!(f, "module '{id}' is not registered"),
            Error::PolicyNotFound(name) => write!(f, "there is no policy '{name}'"),
            Error::ArtifactNotFound(digest) => write!(f, "there is no artifact {digest}"),
            Error::ConfigurationNotFound(id) => write!(f, "there is no configuration '{id}'"),
            Error::ConfigurationExists(id) => write!(f, "A configuration with ID '{id}' already exists."),
            Error::TooManyConfigurations => {
                write!(
                    f,
                    "there are {} configurations, no more are allowed",
                    hub_domain::limits::CONFIGURATIONS_MAX
                )
            }
            Error::Configuration(error) => error.fmt(f),
            Error::RetirementNotFound(id) => write!(f, "there is no retired device '{id}'"),
            Error::Retired { device, since, restorable_until } => {
                write!(f, "device '{device}' was retired at {since} and {}", way_out(*restorable_until))
            }
            Error::Conflict(text) | Error::Gone(text) => f.write_str(text),
            Error::JobNotFound(id) => write!(f, "there is no job '{id}'"),
            Error::JobTargetNotFound { job, id } => write!(f, "job '{job}' has no target '{id}'"),
            Error::JobExists(id) => write!(f, "A job with ID '{id}' already exists."),
            Error::JobOver { id, status } => {
                write!(f, "job '{id}' is {status}: only a job that waits or runs can be cancelled")
            }
            Error::TooManyTransfers => write!(
                f,
                "{} import and export jobs wait or run, no more are allowed",
                crate::config::TRANSFERS_UNFINISHED_MAX
            ),
            Error::DeviceExists(id) => write!(f, "A device with ID '{id}' is already registered."),
            Error::ModuleExists(id) => write!(f, "A module with ID '{id}' is already registered."),
            Error::PreconditionFailed => f.write_str("Precondition failed: Invalid ETag"),
            Error::InvalidContinuation => f.write_str(
                "the continuation token was not made by this hub for this query; begin again without it",
            ),
            Error::TooManyModules(id) => {
                write!(
                    f,
                    "device '{id}' has {} modules, no more are allowed",
                    hub_domain::limits::MODULES_PER_DEVICE_MAX
                )
            }
            Error::TooManyDevices(given) => {
                write!(
                    f,
                    "{given} devices in one request, at most {} are allowed",
                    hub_domain::limits::BULK_DEVICES_MAX
                )
            }
            Error::DeviceOffline { .. } => f.write_str("Timed out waiting for device to connect."),
            Error::DeviceGone => f.write_str("The device closed its connection before it answered."),
            Error::TimedOut { .. } => f.write_str("Timed out waiting for the response from device."),
            Error::TooManyCalls(id) => write!(f, "too many method calls wait for device '{id}'"),
            Error::PositionGone { oldest } => {
                write!(
                    f,
                    "events after this position are no longer kept; the oldest kept position is {oldest}"
                )
            }
            Error::Contended(id) => write!(f, "'{id}' is being changed by many at once; try again"),
            Error::Internal(text) => write!(f, "internal error: {text}"),
        }
    }
}

/// How the id of a retired device can be used again.
fn way_out(restorable_until: Option<Timestamp>) -> String {
    match restorable_until {
        Some(until) => format!("keeps its id: restore it until {until}, or erase it and release the id"),
        None => "erased; its id must be released before it is used again".into(),
    }
}

impl std::error::Error for Error {}

impl From<ConfigurationError> for Error {
    fn from(error: ConfigurationError) -> Self {
        Error::Configuration(error)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt { .. } => Error::Internal(error.to_string()),
            other => Error::Unavailable(other.to_string()),
        }
    }
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::TooLarge { .. } => Error::TooLarge(error.to_string()),
            CommitError::Unavailable(error) => error.into(),
            conflict @ CommitError::Conflict { .. } => Error::Internal(conflict.to_string()),
        }
    }
}

/// The error for an identity that is not there.
pub(crate) fn not_found(id: &TwinId) -> Error {
    if id.is_module() { Error::ModuleNotFound(id.clone()) } else { Error::DeviceNotFound(id.device.clone()) }
}
