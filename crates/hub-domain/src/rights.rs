//! Which rights a shared access policy gives (S 1.3). Pure: the engine asks, this answers.

use std::fmt;

/// A set of rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// Nothing.
    pub const NONE: Rights = Rights(0);
    /// Read identities and statistics.
    pub const REGISTRY_READ: Rights = Rights(1);
    /// Create, change and delete identities; includes reading them.
    pub const REGISTRY_WRITE: Rights = Rights(2 | 1);
    /// Twins, queries, methods, events: the back end's side.
    pub const SERVICE_CONNECT: Rights = Rights(4);
    /// Everything a device may do, for any device.
    pub const DEVICE_CONNECT: Rights = Rights(8);
    /// All of them: what the owner has.
    pub const OWNER: Rights = Rights(15);

    const NAMES: [(&'static str, Rights); 4] = [
        ("RegistryWrite", Rights::REGISTRY_WRITE),
        ("RegistryRead", Rights::REGISTRY_READ),
        ("ServiceConnect", Rights::SERVICE_CONNECT),
        ("DeviceConnect", Rights::DEVICE_CONNECT),
    ];

    /// The five policies that a new hub has, with their rights (S 1.3).
    pub const BUILT_IN_POLICIES: [(&'static str, Rights); 5] = [
        ("iothubowner", Rights::OWNER),
        ("service", Rights::SERVICE_CONNECT),
        ("device", Rights::DEVICE_CONNECT),
        ("registryRead", Rights::REGISTRY_READ),
        ("registryReadWrite", Rights::REGISTRY_WRITE),
    ];

    /// Whether all of `other` are in this set.
    pub fn allow(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }

    /// This set and the other.
    pub fn with(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    /// The names in this set, for storage and display.
    pub fn names(self) -> Vec<&'static str> {
        Self::NAMES.iter().filter(|(_, right)| self.allow(*right)).map(|(name, _)| *name).collect()
    }

    /// The right with this name.
    pub fn named(name: &str) -> Option<Rights> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, right)| *right)
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_includes_read_and_names_round_trip() {
        assert!(Rights::REGISTRY_WRITE.allow(Rights::REGISTRY_READ));
        assert!(!Rights::REGISTRY_READ.allow(Rights::REGISTRY_WRITE));
        assert!(!Rights::SERVICE_CONNECT.allow(Rights::REGISTRY_READ));
        for (_, rights) in Rights::BUILT_IN_POLICIES {
            let again = rights
                .names()
                .into_iter()
                .map(|name| Rights::named(name).expect("a known name"))
                .fold(Rights::NONE, Rights::with);
            assert_eq!(again, rights);
        }
    }
}
