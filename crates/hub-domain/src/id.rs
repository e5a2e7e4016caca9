//! Names of things: devices, modules, the twins that belong to them, and configurations.
//!
//! An id is checked once, when it is made; code that holds one never checks again.

use std::fmt;
use std::sync::Arc;

use crate::limits::ID_CHARS_MAX;

/// Characters besides ASCII letters and digits that an id may contain (S 2.1, D 0.4; `+` and `#`
/// are refused because they are wildcards in MQTT topics).
const ID_PUNCTUATION: &str = "-.%_*?!(),:=@$'";

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdError {
    what: &'static str,
    problem: String,
    alphabet: Alphabet,
}

/// Which letters and which punctuation an id may contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Alphabet {
    letters: &'static str,
    upper_case: bool,
    punctuation: &'static str,
}

impl Alphabet {
    /// Of devices and modules.
    const REGISTRY: Alphabet =
        Alphabet { letters: "ASCII letters", upper_case: true, punctuation: ID_PUNCTUATION };
    /// Of configurations.
    const CONFIGURATION: Alphabet = Alphabet {
        letters: "lower-case ASCII letters",
        upper_case: false,
        punctuation: CONFIGURATION_ID_PUNCTUATION,
    };

    fn allows(self, c: char) -> bool {
        c.is_ascii_lowercase()
            || c.is_ascii_digit()
            || (self.upper_case && c.is_ascii_uppercase())
            || self.punctuation.contains(c)
    }
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is not valid: {}; allowed are 1 to {ID_CHARS_MAX} {}, digits and {}",
            self.what, self.problem, self.alphabet.letters, self.alphabet.punctuation
        )
    }
}

impl std::error::Error for IdError {}

/// Characters besides lower-case ASCII letters and digits that a configuration's id may contain (S 8.1).
const CONFIGURATION_ID_PUNCTUATION: &str = "-.%_*?!(),:=@$'+#;~`";

fn check(what: &'static str, text: &str, alphabet: Alphabet) -> Result<Arc<str>, IdError> {
    let problem = if text.is_empty() {
        Some("it is empty".to_string())
    } else if text.len() > ID_CHARS_MAX {
        Some(format!("it has {} bytes", text.len()))
    } else {
        text.char_indices()
            .find(|(_, c)| !alphabet.allows(*c))
            .map(|(at, c)| format!("character {c:?} at position {at}"))
    };
    match problem {
        Some(problem) => Err(IdError { what, problem, alphabet }),
        None => Ok(Arc::from(text)),
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $alphabet:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text`; errs with what is wrong and what is allowed.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check($what, text, Alphabet::$alphabet).map(Self)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// A device's name: case-sensitive, 1 to 128 characters, stable for ever.
    DeviceId,
    "device id",
    REGISTRY
);
name_type!(
    /// A module's name within its device; same characters as a device id.
    ModuleId,
    "module id",
    REGISTRY
);
name_type!(
    /// A configuration's name: 1 to 128 characters, no upper case, so that no two differ by case alone (S 8.1).
    ConfigurationId,
    "configuration id",
    CONFIGURATION
);

name_type!(
    /// A job's name, chosen by who creates it; same characters as a device id.
    JobId,
    "job id",
    REGISTRY
);

/// Whose twin, identity or session: a device, or one module of a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TwinId {
    /// The device.
    pub device: DeviceId,
    /// The module, if it is a module's.
    pub module: Option<ModuleId>,
}

impl TwinId {
    /// The id of a device's own twin.
    pub fn device(device: DeviceId) -> Self {
        Self { device, module: None }
    }

    /// The id of a module's twin.
    pub fn module(device: DeviceId, module: ModuleId) -> Self {
        Self { device, module: Some(module) }
    }

    /// Checks both names; `module` is `None` for a device.
    pub fn parse(device: &str, module: Option<&str>) -> Result<Self, IdError> {
        Ok(Self { device: DeviceId::parse(device)?, module: module.map(ModuleId::parse).transpose()? })
    }

    /// Whether this names a module.
    pub fn is_module(&self) -> bool {
        self.module.is_some()
    }
}

/// `device` or `device/module`; ids cannot contain `/`.
impl fmt::Display for TwinId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.module {
            None => write!(f, "{}", self.device),
            Some(module) => write!(f, "{}/{module}", self.device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked() {
        for good in ["d1", "a-b.c%d_e*f?g!h(i)j,k:l=m@n$o'", &"x".repeat(128)] {
            assert_eq!(DeviceId::parse(good).expect("a valid id").as_str(), good);
        }
        for bad in ["", "a/b", "a b", "ü", "a+b", "a#b", "a\0b", &"x".repeat(129)] {
            assert!(DeviceId::parse(bad).is_err(), "{bad:?} must be refused");
        }
        let text = ModuleId::parse("a/b").expect_err("slash").to_string();
        assert!(text.contains("module id") && text.contains("'/' at position 1"), "{text}");
        for good in ["a", "firmware-2.1+beta", "0:_*!'", &"x".repeat(128)] {
            assert_eq!(ConfigurationId::parse(good).expect("a valid id").as_str(), good);
        }
        for bad in
            ["", "A", "a b", "a&b", "a^", "[", "]", "{", "}", "\\", "|", "\"", "<", ">", "a/b", "ü", "\u{7f}"]
        {
            assert!(ConfigurationId::parse(bad).is_err(), "{bad:?} must be refused");
        }
        let text = ConfigurationId::parse("aB").expect_err("upper case").to_string();
        assert!(text.contains("'B' at position 1") && text.contains("lower-case"), "{text}");
    }
}
