//! The query language: text to [`Query`] or [`Condition`], and these over one row (a twin or a device job) at a time.
//! Parsing bounds length and nesting, so that no text can hang the hub or exhaust its stack; evaluation is total: it
//! never fails and never panics. Must never know where rows come from: see [`Row`].
//!
//! Stages: `lexer` (text to tokens), `parser` and `expression` (tokens to `ast`), then `eval` (is the row in?),
//! `select` (what of it is shown, and in which order), `aggregate` (over many rows), `plan` (what is read at all),
//! `explain` (why is the row in or out?), `guard` and `standing` (which of many
//! conditions can a change concern?), `live` (can the query stand?).
//! `first_edition` makes the same of a JSON document. `print` is the inverse of parsing. The rules for users are in
//! `docs/query-language.md`.

mod aggregate;
mod ast;
mod datum;
mod error;
mod eval;
mod explain;
mod expression;
mod first_edition;
mod function;
mod guard;
mod lexer;
mod live;
mod parser;
mod path;
mod plan;
mod print;
mod select;
mod standing;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use aggregate::{Aggregation, Group, TooManyGroups};
pub use ast::{Comparison, Condition, ItemType, Query, Source};
pub use datum::{Datum, Document, Row};
pub use error::QueryError;
pub use explain::{EXPLAINED_VALUE_BYTES_MAX, Explanation, Read};
pub use path::{Path, Root};
pub use plan::{Plan, Term};
pub use select::{SortKey, TopRows};
pub use standing::{Look, Shown, Standing};

/// Longest query or condition text, in characters (the documented limit of the service).
pub const QUERY_TEXT_CHARS_MAX: usize = 8192;

/// Deepest nesting of parentheses, NOT, unary minus, function calls and arrays. Everything that walks an expression
/// recurses at most this deep, since chains (`a AND b AND c`, `1 + 2 + 3`) are flat lists.
pub const QUERY_NESTING_LEVELS_MAX: usize = 64;

/// Deepest nesting of filters in a JSON query: as a text each level takes two, a NOT and a parenthesis.
pub const QUERY_FILTER_LEVELS_MAX: usize = QUERY_NESTING_LEVELS_MAX / 2 - 2;

/// Most columns in SELECT, and most paths in GROUP BY and in ORDER BY; likewise elements of each list in a JSON
/// query.
pub const QUERY_COLUMNS_MAX: usize = 256;

/// Most groups that one aggregation holds in memory.
pub const QUERY_GROUPS_MAX: usize = 10_000;
