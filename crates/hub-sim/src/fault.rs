//! What a simulated device can be told to do wrong.

use std::fmt;

use crate::surroundings::mix;

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

    /// What the device of this name does wrong in a fleet where so many percent of the devices do something wrong: the same
    /// for the same seed.
    pub fn drawn(seed: u64, device: &str, percent: u8) -> Option<Self> {
        let drawn = device.bytes().fold(mix(!seed), |drawn, byte| mix(drawn ^ u64::from(byte)));
        let which = usize::try_from(mix(drawn) % Self::ALL.len() as u64).unwrap_or(0);
        Self::ALL.get(which).copied().filter(|_| drawn % 100 < u64::from(percent))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_faults() {
        let fleet = |seed, percent| -> Vec<_> {
            (0..1000).map(|number| Fault::drawn(seed, &format!("sim-{number:04}"), percent)).collect()
        };
        let faulty = |seed, percent| fleet(seed, percent).into_iter().flatten().count();
        assert_eq!((faulty(1, 0), faulty(1, 100)), (0, 1000));
        assert!((70..130).contains(&faulty(1, 10)), "{}", faulty(1, 10));
        assert_eq!(fleet(1, 10), fleet(1, 10));
        assert_ne!(fleet(1, 10), fleet(2, 10));
        let all = fleet(1, 100);
        assert!(Fault::ALL.into_iter().all(|fault| all.contains(&Some(fault))));
    }
}
