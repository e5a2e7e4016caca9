//! What can go wrong with a container, in words for whoever named it. Never a query of a URL: signatures are in it.

use std::fmt;
use std::io;
use std::time::Duration;

/// The result of this crate.
pub type Result<T, E = ContainerError> = std::result::Result<T, E>;

/// Why a container or a blob cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerError {
    /// The URL or the name is wrong, or the settings do not allow it; nothing was touched.
    Refused(String),
    /// There is no such blob or container.
    NotFound(String),
    /// The place answered with an error.
    Failed(String),
    /// The place did not answer in time.
    Stalled {
        /// The blob.
        name: String,
        /// How long it had.
        after: Duration,
    },
}

impl fmt::Display for ContainerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(text) | Self::NotFound(text) | Self::Failed(text) => f.write_str(text),
            Self::Stalled { name, after } => {
                write!(f, "blob '{name}': the container did not answer within {} s", after.as_secs_f32())
            }
        }
    }
}

impl std::error::Error for ContainerError {}

impl ContainerError {
    /// An error of a file.
    pub(crate) fn io(name: &str, error: &io::Error) -> Self {
        let text = format!("blob '{name}': {}", redacted(&error.to_string()));
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound(text),
            _ => Self::Failed(text),
        }
    }

    /// An error of a store in the net.
    pub(crate) fn store(name: &str, error: &object_store::Error) -> Self {
        let text = format!("blob '{name}': {}", redacted(&chain(error)));
        match error {
            object_store::Error::NotFound { .. } => Self::NotFound(text),
            _ => Self::Failed(text),
        }
    }
}

/// Longest text of an error; stores answer with whole pages.
const ERROR_TEXT_CHARS_MAX: usize = 600;

/// The error with its causes, those left out that an outer one quotes already.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.contains(&inner) {
            text = format!("{text}: {inner}");
        }
        cause = error.source();
    }
    text
}

/// Without the queries of URLs, on one line, not too long.
pub(crate) fn redacted(text: &str) -> String {
    let mut kept = String::new();
    let mut in_query = false;
    for sign in text.chars() {
        in_query = match sign {
            '?' => true,
            ' ' | '\n' | '\r' | '\t' | ')' | '"' | '\'' | '<' | '>' => false,
            _ => in_query,
        };
        if !in_query {
            kept.push(if sign.is_control() { ' ' } else { sign });
        }
    }
    kept.chars().take(ERROR_TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_not_shown() {
        for (text, shown) in [
            ("no query", "no query"),
            ("for url (https://a.b/c?sv=1&sig=secret) failed", "for url (https://a.b/c) failed"),
            ("GET https://a.b/c?sig=secret\nnext", "GET https://a.b/c next"),
            ("why?sig=x", "why"),
        ] {
            assert_eq!(redacted(text), shown);
        }
        assert_eq!(redacted(&"x".repeat(5000)).len(), ERROR_TEXT_CHARS_MAX);
    }
}
