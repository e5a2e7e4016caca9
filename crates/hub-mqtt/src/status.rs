//! The engine's errors in MQTT's words: one table for CONNACK (D 1.4), one for twin answers (D 4.2), no wildcards.

use hub_engine::Error;
use hub_engine::clock::random_bytes;

/// CONNACK: another protocol version. For nothing else: clients downgrade on it.
pub const OTHER_PROTOCOL: u8 = 1;
/// CONNACK: not now.
pub const UNAVAILABLE: u8 = 3;
/// CONNACK: you are not who you say. Clients stop for good on it.
const NOT_AUTHORIZED: u8 = 5;
/// SUBACK: refused.
pub const FILTER_REFUSED: u8 = 0x80;

/// The CONNACK code that refuses a connection.
pub fn connack(error: &Error) -> u8 {
    match error {
        Error::Unauthenticated(_)
        | Error::Forbidden(_)
        | Error::DeviceNotFound(_)
        | Error::ModuleNotFound(_)
        | Error::Retired { .. }
        | Error::PolicyNotFound(_) => NOT_AUTHORIZED,
        Error::Disabled(_)
        | Error::ArtifactNotFound(_)
        | Error::JobNotFound(_)
        | Error::JobTargetNotFound { .. }
        | Error::ConfigurationNotFound(_)
        | Error::ConfigurationExists(_)
        | Error::TooManyConfigurations
        | Error::Configuration(_)
        | Error::DeviceExists(_)
        | Error::ModuleExists(_)
        | Error::JobExists(_)
        | Error::JobOver { .. }
        | Error::TooManyTransfers
        | Error::Container(_)
        | Error::RetirementNotFound(_)
        | Error::Conflict(_)
        | Error::Gone(_)
        | Error::PreconditionFailed
        | Error::Invalid(_)
        | Error::InvalidContinuation
        | Error::TooLarge(_)
        | Error::TooManyModules(_)
        | Error::TooManyDevices(_)
        | Error::DeviceOffline { .. }
        | Error::DeviceGone
        | Error::TimedOut { .. }
        | Error::TooManyCalls(_)
        | Error::Throttled(_)
        | Error::PositionGone { .. }
        | Error::Unavailable(_)
        | Error::Contended(_)
        | Error::Internal(_) => UNAVAILABLE,
    }
}

/// The error code of a twin answer; its thousands are the status.
pub fn twin_code(error: &Error) -> u32 {
    match error {
        Error::Invalid(_) | Error::InvalidContinuation => 400_004,
        Error::Unauthenticated(_) => 401_003,
        Error::Forbidden(_) => 403_000,
        Error::Disabled(_) => 403_012,
        Error::DeviceNotFound(_) => 404_001,
        Error::ModuleNotFound(_) => 404_010,
        Error::PolicyNotFound(_)
        | Error::ArtifactNotFound(_)
        | Error::JobNotFound(_)
        | Error::JobTargetNotFound { .. }
        | Error::RetirementNotFound(_)
        | Error::ConfigurationNotFound(_) => 404_000,
        Error::Configuration(_) | Error::Container(_) => 400_004,
        Error::ConfigurationExists(_) => 409_000,
        Error::TooManyConfigurations | Error::TooManyTransfers => 413_001,
        Error::DeviceExists(_)
        | Error::ModuleExists(_)
        | Error::JobExists(_)
        | Error::JobOver { .. }
        | Error::Retired { .. }
        | Error::Conflict(_) => 409_000,
        Error::PreconditionFailed => 412_001,
        Error::TooLarge(_) | Error::TooManyModules(_) | Error::TooManyDevices(_) => 413_001,
        Error::Throttled(_) | Error::Contended(_) | Error::TooManyCalls(_) => 429_001,
        Error::PositionGone { .. } | Error::Gone(_) => 400_000,
        Error::DeviceOffline { .. } | Error::DeviceGone => 404_103,
        Error::TimedOut { .. } => 504_101,
        Error::Unavailable(_) => 503_001,
        Error::Internal(_) => 500_001,
    }
}

/// A new id by which an answer can be found again.
pub fn tracking_id() -> String {
    random_bytes::<16>().iter().map(|byte| format!("{byte:02x}")).collect()
}
