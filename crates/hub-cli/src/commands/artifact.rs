//! `fleetyard artifact`: firmware images. They are streamed from the disk, whatever their size.

use std::path::PathBuf;

use clap::Subcommand;
use futures_util::TryStreamExt;
use reqwest::{Body, Method};
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use crate::Context;
use crate::error::{Error, Result};
use crate::output::{line, progress};

const COLUMNS: [(&str, &str); 4] =
    [("sha256", "sha256"), ("name", "name"), ("bytes", "bytes"), ("added", "addedAt")];
/// Bytes that are read from the disk at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// What to do with artifacts.
#[derive(Subcommand, Debug)]
pub enum Action {
    /// Store a file on the hub; the same content is stored once.
    Add {
        /// The file.
        file: PathBuf,
        /// Its name in lists; the file's own without it.
        #[arg(long)]
        name: Option<String>,
    },
    /// List stored files.
    List,
    /// Remove stored files.
    Remove {
        /// Their SHA-256, as listed.
        #[arg(required = true)]
        sha256: Vec<String>,
    },
    /// Print a link by which devices fetch a file without other credentials.
    Url {
        /// Its SHA-256, as listed.
        sha256: String,
        /// How long the link is good, in seconds.
        #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
        expires_in: u64,
    },
}

/// Does it.
pub(crate) async fn run(context: &Context, action: Action) -> Result<()> {
    let client = &context.client;
    match action {
        Action::Add { file, name } => add(context, file, name).await,
        Action::List => match client.get(&["api", "artifacts"]).await? {
            Value::Array(artifacts) => context.output.many(&artifacts, &COLUMNS),
            _ => Err(Error::failed("the hub's answer is not a list of artifacts")),
        },
        Action::Remove { sha256 } => {
            for digest in &sha256 {
                client.delete(&["api", "artifacts", digest], None).await?;
                context.output.done(&format!("removed {digest}"));
            }
            Ok(())
        }
        Action::Url { sha256, expires_in } => {
            let path = ["api", "artifacts", &sha256, "grants"];
            let mut grant =
                client.write(Method::POST, &path, &json!({ "expiresInSeconds": expires_in }), None).await?;
            let url = client.url(grant["path"].as_str().unwrap_or_default());
            if !context.output.json {
                return line(&url);
            }
            grant["url"] = url.into();
            line(&grant.to_string())
        }
    }
}

async fn add(context: &Context, path: PathBuf, name: Option<String>) -> Result<()> {
    let unreadable = |error: std::io::Error| Error::usage(format!("cannot read {}: {error}", path.display()));
    let file = tokio::fs::File::open(&path).await.map_err(unreadable)?;
    let metadata = file.metadata().await.map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Error::usage(format!("{} is not a file", path.display())));
    }
    let name = name.or_else(|| Some(path.file_name()?.to_string_lossy().into_owned())).unwrap_or_default();
    let bar = progress(metadata.len(), "upload");
    let counted = bar.clone();
    let chunks = ReaderStream::with_capacity(file, CHUNK_BYTES)
        .inspect_ok(move |chunk| counted.inc(chunk.len() as u64));
    let request = context
        .client
        .request(Method::POST, &["api", "artifacts"])
        .query(&[("name", &name)])
        .header("content-type", "application/octet-stream")
        .header("content-length", metadata.len())
        .body(Body::wrap_stream(chunks));
    let answer = context.client.json_with_headers(request).await;
    bar.finish_and_clear();
    context.output.one(&answer?.0, &COLUMNS)
}
