//! The one error of parsing: where in the text, what was wrong, what would be right.
//! Must never carry more of the text than a short excerpt: it goes into logs and answers.

use std::fmt;

/// Longest excerpt of the query text inside a message, in characters.
pub(super) const EXCERPT_CHARS_MAX: usize = 32;

/// Why a text is not a query. `Display` reads `Line 1:29 Unexpected character at input 'x'`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryError {
    /// Line in the text, from 1.
    pub line: usize,
    /// Column in that line in characters, from 1.
    pub column: usize,
    /// What was wrong and what would be right.
    pub message: String,
}

impl QueryError {
    /// An error at the byte `offset` of `text`; an offset inside a character counts for that character.
    pub(super) fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let continuation = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
        let column = before[line_start..].iter().filter(|byte| !continuation(byte)).count() + 1;
        Self { line, column, message: message.into() }
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line {}:{} {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for QueryError {}

/// The start of `text`, cut to [`EXCERPT_CHARS_MAX`].
pub(super) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
