//! What a simulated device can be told to do wrong.

use std::fmt;

/// A fault; it stays for the life of the simulated device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The download is refused by the device before it begins.
    DownloadFails,
    /// What was downloaded is damaged on the way.
    WrongHash,
    /// Part of what was downloaded is lost.
    WrongSize,
    /// The image cannot be written into the slot.
    ApplyFails,
    /// The new slot does not boot: the device falls back to the old one.
    BootFails,
    /// The new firmware runs but cannot be confirmed.
    ConfirmFails,
    /// After a reboot the device never comes back.
    NeverReturns,
    /// A factory reset fails.
    ResetFails,
    /// Configuration is refused.
    ConfigurationFails,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 9] = [
        Fault::DownloadFails,
        Fault::WrongHash,
        Fault::WrongSize,
        Fault::ApplyFails,
        Fault::BootFails,
        Fault::ConfirmFails,
        Fault::NeverReturns,
        Fault::ResetFails,
        Fault::ConfigurationFails,
    ];

    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::DownloadFails => "download-fails",
            Fault::WrongHash => "wrong-hash",
            Fault::WrongSize => "wrong-size",
            Fault::ApplyFails => "apply-fails",
            Fault::BootFails => "boot-fails",
            Fault::ConfirmFails => "confirm-fails",
            Fault::NeverReturns => "never-returns",
            Fault::ResetFails => "reset-fails",
            Fault::ConfigurationFails => "configuration-fails",
        }
    }

    /// From the word on the command line.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.as_str() == text)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
