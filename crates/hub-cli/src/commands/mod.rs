//! The commands, one file per resource, and what they share: reading JSON arguments, paging through queries.

pub mod artifact;
pub mod columns;
pub mod configuration;
pub mod device;
pub mod explain;
pub mod export;
pub mod import;
pub mod job;
pub mod method;
pub mod module;
pub mod monitor;
pub mod policy;
pub mod query;
pub mod retirement;
pub mod rollout;
pub mod simulate;
pub mod status;
pub mod transfer;
pub mod twin;

use std::io::Read;

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::Context;
use crate::error::{Error, Result};

/// Rows on a page of a list.
const PAGE_ROWS: usize = 1000;
/// Longest JSON that an argument names.
const ARGUMENT_BYTES_MAX: u64 = 1024 * 1024;

/// Reads an argument that is JSON itself, `@FILE`, or `-` for standard input.
fn read_json(argument: &str) -> Result<Value> {
    let mut text = String::new();
    let unreadable = |error: std::io::Error| Error::usage(format!("cannot read {argument}: {error}"));
    if argument == "-" {
        std::io::stdin().take(ARGUMENT_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    } else if let Some(path) = argument.strip_prefix('@') {
        let file = std::fs::File::open(path).map_err(unreadable)?;
        file.take(ARGUMENT_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    } else {
        text = argument.into();
    }
    serde_json::from_str(&text).map_err(|error| {
        Error::usage(format!(
            "not JSON at line {} column {}: {error}; give JSON, @FILE, or - for standard input",
            error.line(),
            error.column()
        ))
    })
}

/// All rows of a query, or the first `limit`.
async fn query_all(context: &Context, text: &str, limit: usize) -> Result<Vec<Value>> {
    pages(context, || context.client.query(text), limit).await
}

/// All rows of all pages of what `ask` asks for, or the first `limit`.
async fn pages(context: &Context, ask: impl Fn() -> RequestBuilder, limit: usize) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let size = PAGE_ROWS.min(limit - rows.len());
        let (page, next) = context.client.page(ask(), size, token.as_deref()).await?;
        rows.extend(page);
        token = next;
        if token.is_none() || rows.len() >= limit {
            rows.truncate(limit);
            return Ok(rows);
        }
    }
}

/// A text of the query language.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// How a device or module proves who it is.
#[derive(clap::Args, Debug, Default)]
pub struct AuthenticationFlags {
    /// Primary key, base64 of 16 to 64 bytes; random without it.
    #[arg(long, value_name = "KEY", requires = "secondary_key")]
    primary_key: Option<String>,
    /// Secondary key.
    #[arg(long, value_name = "KEY", requires = "primary_key")]
    secondary_key: Option<String>,
    /// SHA-1 or SHA-256 of its certificate in hexadecimal digits, instead of keys.
    #[arg(long, value_name = "HEX", conflicts_with = "primary_key")]
    primary_thumbprint: Option<String>,
    /// Likewise, of a second certificate.
    #[arg(long, value_name = "HEX", requires = "primary_thumbprint")]
    secondary_thumbprint: Option<String>,
}

impl AuthenticationFlags {
    /// The body's `authentication`; `None` if nothing was given.
    fn to_body(&self) -> Option<Value> {
        if let Some(primary) = &self.primary_thumbprint {
            let thumbprint =
                json!({ "primaryThumbprint": primary, "secondaryThumbprint": self.secondary_thumbprint });
            return Some(json!({ "type": "selfSigned", "x509Thumbprint": thumbprint }));
        }
        let keys = json!({ "primaryKey": self.primary_key.as_ref()?, "secondaryKey": self.secondary_key });
        Some(json!({ "type": "sas", "symmetricKey": keys }))
    }
}

/// The keys' fields, for those who ask for them.
const KEY_FIELDS: [(&str, &str); 4] = [
    ("primary key", "authentication.symmetricKey.primaryKey"),
    ("secondary key", "authentication.symmetricKey.secondaryKey"),
    ("primary thumbprint", "authentication.x509Thumbprint.primaryThumbprint"),
    ("secondary thumbprint", "authentication.x509Thumbprint.secondaryThumbprint"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_json_files_or_refused_with_the_place() {
        assert_eq!(read_json("{\"a\":1}").expect("JSON"), json!({"a": 1}));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.json");
        std::fs::write(&path, "[1]").expect("written");
        assert_eq!(read_json(&format!("@{}", path.display())).expect("JSON"), json!([1]));
        assert!(read_json("{a}").expect_err("not JSON").message.contains("line 1 column 2"));
        assert!(read_json("@/nowhere").expect_err("no file").message.contains("/nowhere"));
    }

    #[test]
    fn texts_of_queries_are_escaped() {
        assert_eq!(quoted(r"a'b\c"), r"'a\'b\\c'");
    }
}
