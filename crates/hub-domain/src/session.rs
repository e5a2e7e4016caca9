//! What a device or module has subscribed to. It outlives connections and restarts (D 1.6).

use crate::time::Timestamp;

/// A family of messages to a device; every topic filter that the protocol knows enables one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Cloud-to-device messages, or a module's inputs.
    Messages,
    /// Answers to twin requests.
    TwinAnswers,
    /// Changes of desired properties.
    Desired,
    /// Direct methods.
    Methods,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 4] = [Family::Messages, Family::TwinAnswers, Family::Desired, Family::Methods];

    /// The name in storage.
    pub fn as_str(self) -> &'static str {
        match self {
            Family::Messages => "messages",
            Family::TwinAnswers => "twinAnswers",
            Family::Desired => "desired",
            Family::Methods => "methods",
        }
    }

    /// From the name in storage.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.as_str() == text)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of families, with the quality of service granted to each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscriptions {
    enabled: u8,
    at_least_once: u8,
}

impl Subscriptions {
    /// Whether the family is enabled.
    pub fn has(self, family: Family) -> bool {
        self.enabled & family.bit() != 0
    }

    /// Whether the family was granted QoS 1.
    pub fn is_at_least_once(self, family: Family) -> bool {
        self.at_least_once & family.bit() != 0
    }

    /// With the family enabled.
    #[must_use]
    pub fn with(self, family: Family, at_least_once: bool) -> Self {
        let cleared = self.without(family);
        Self {
            enabled: cleared.enabled | family.bit(),
            at_least_once: cleared.at_least_once | if at_least_once { family.bit() } else { 0 },
        }
    }

    /// With the family disabled.
    #[must_use]
    pub fn without(self, family: Family) -> Self {
        Self { enabled: self.enabled & !family.bit(), at_least_once: self.at_least_once & !family.bit() }
    }

    /// Whether nothing is enabled.
    pub fn is_empty(self) -> bool {
        self.enabled == 0
    }
}

/// What is stored of a device's session: it survives connections and restarts of the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// What it subscribed to; empty after a clean session.
    pub subscriptions: Subscriptions,
    /// When it attached or went last.
    pub changed: Timestamp,
    /// When it last sent something, as far as that was noted.
    pub last_activity: Timestamp,
    /// Which attachment is in force; `None` when the device is known to have gone.
    pub attached: Option<u64>,
}

impl StoredSession {
    /// Whether there is a session to come back to: one with subscriptions.
    pub fn kept(&self) -> bool {
        !self.subscriptions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_come_and_go() {
        let set = Subscriptions::default().with(Family::Methods, false).with(Family::Desired, true);
        assert!(set.has(Family::Methods) && set.has(Family::Desired) && !set.has(Family::Messages));
        assert!(set.is_at_least_once(Family::Desired) && !set.is_at_least_once(Family::Methods));
        assert!(!set.with(Family::Desired, false).is_at_least_once(Family::Desired));
        assert!(set.without(Family::Methods).without(Family::Desired).is_empty());
        for family in Family::ALL {
            assert_eq!(Family::parse(family.as_str()), Some(family));
        }
    }
}
