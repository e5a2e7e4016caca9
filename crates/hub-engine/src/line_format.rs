//! How identities and configurations are lines of text: a front end says, since the engine knows no wire format.

use hub_domain::configuration::{Configuration, ConfigurationSpec};
use hub_domain::transfer::Refusal;
use hub_domain::version::Precondition;

use crate::bulk::BulkItem;
use crate::error::Error;
use crate::twins::TwinView;

/// A format of lines. Pure: reading and printing a line must depend on nothing else.
pub trait LineFormat: Send + Sync {
    /// The item of a line; the refusal has the number `line`.
    fn item(&self, line: u64, text: &[u8]) -> Result<BulkItem, Refusal>;

    /// Appends an identity's line to `text`, with its end.
    fn print_item(&self, view: &TwinView, with_keys: bool, text: &mut Vec<u8>);

    /// The configuration of a line; the refusal has the number `line`.
    fn configuration(&self, line: u64, text: &[u8]) -> Result<ConfigurationItem, Refusal>;

    /// Appends a configuration's line to `text`, with its end.
    fn print_configuration(&self, configuration: &Configuration, text: &mut Vec<u8>);

    /// Appends the line of something that was refused to `text`, with its end.
    fn print_refusal(&self, refusal: &Refusal, of: LinesOf, text: &mut Vec<u8>);

    /// The number of an error, such as 404001.
    fn code(&self, error: &Error) -> u32;
}

/// What lines are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinesOf {
    /// Devices and modules.
    Identities,
    /// Configurations.
    Configurations,
}

/// What a line does with a configuration: it is created, or replaced if the precondition holds.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigurationItem {
    /// The configuration.
    pub spec: ConfigurationSpec,
    /// On its etag, if it exists.
    pub precondition: Precondition,
}
