//! Etags and the preconditions built on them.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

/// An opaque version tag as clients see it, without quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etag(String);

impl Etag {
    /// A registry entry's etag: base64 of a decimal number (S 2.1).
    pub fn of_identity(counter: u64) -> Self {
        Self(BASE64.encode(counter.to_string()))
    }

    /// A twin's etag: base64 of an eight-byte big-endian counter (S 4.1).
    pub fn of_twin(counter: u64) -> Self {
        Self(BASE64.encode(counter.to_be_bytes()))
    }

    /// The text between the quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a caller demands of the present state before his write may happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// No `If-Match`: for identities that means "create", for twins "whatever is there".
    None,
    /// `If-Match: *`: it must exist, in whatever version.
    Exists,
    /// It must be at this version.
    Is(Etag),
}

impl Precondition {
    /// From the value of an `If-Match` header: bare, quoted or weak (S 1.8). An empty value is none.
    pub fn parse(header: Option<&str>) -> Self {
        let Some(text) = header.map(str::trim).filter(|text| !text.is_empty()) else {
            return Self::None;
        };
        let text = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
        match text {
            "*" => Self::Exists,
            text => Self::Is(Etag(text.to_string())),
        }
    }

    /// Whether something at `etag` satisfies it.
    pub fn holds(&self, etag: &Etag) -> bool {
        match self {
            Self::None | Self::Exists => true,
            Self::Is(wanted) => wanted == etag,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_look_like_the_service() {
        assert_eq!(Etag::of_twin(1).as_str(), "AAAAAAAAAAE=");
        assert_eq!(Etag::of_identity(567_709_943).as_str(), "NTY3NzA5OTQz");
    }

    #[test]
    fn preconditions_parse_in_every_spelling() {
        let etag = Etag::of_twin(1);
        for text in ["AAAAAAAAAAE=", "\"AAAAAAAAAAE=\"", "W/\"AAAAAAAAAAE=\"", "*", "\"*\"", " \"*\" "] {
            let parsed = Precondition::parse(Some(text));
            assert_ne!(parsed, Precondition::None, "{text}");
            assert!(parsed.holds(&etag), "{text}");
        }
        assert!(!Precondition::parse(Some("\"AAAAAAAAAAI=\"")).holds(&etag));
        assert_eq!(Precondition::parse(None), Precondition::None);
        assert_eq!(Precondition::parse(Some("")), Precondition::None);
    }
}
