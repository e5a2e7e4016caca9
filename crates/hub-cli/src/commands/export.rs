//! `fleetyard device export-file`: the whole fleet in a file that imports as it is.
//! The file takes its name only when it is whole, and keys are for its owner alone.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use reqwest::header::ACCEPT_ENCODING;
use reqwest::{Method, Response};

use crate::Context;
use crate::error::{Error, Result};
use crate::output::bytes_progress;

/// What to export.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The file, or - for standard output. A name that ends with .gz or .zst is packed so.
    file: PathBuf,
    /// With the keys; needs the right to write the registry.
    #[arg(long)]
    keys: bool,
    /// Without modules.
    #[arg(long)]
    no_modules: bool,
}

/// Exports.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> Result<()> {
    let name = arguments.file.to_string_lossy();
    let coding = match () {
        () if name.ends_with(".gz") => "gzip",
        () if name.ends_with(".zst") => "zstd",
        () => "identity",
    };
    let query = [("keys", arguments.keys), ("modules", !arguments.no_modules)];
    let request = context.client.request(Method::GET, &["api", "export"]).query(&query);
    let answer = context.client.send(request.header(ACCEPT_ENCODING, coding)).await?;
    save(context, answer, &arguments.file, None).await
}

/// Writes an answer to a file, or to standard output if that is `-`. It must end with `end`, if that is given: otherwise
/// it broke off.
pub(super) async fn save(
    context: &Context,
    mut answer: Response,
    file: &Path,
    end: Option<&[u8]>,
) -> Result<()> {
    let name = file.to_string_lossy();
    let unwritable = |error: io::Error| Error::failed(format!("cannot write {name}: {error}"));
    let part = PathBuf::from(format!("{name}.part"));
    let to_stdout = name == "-";
    let mut out: Box<dyn Write> =
        if to_stdout { Box::new(io::stdout()) } else { Box::new(create(&part).map_err(unwritable)?) };
    let bar = bytes_progress(None, "export");
    let broke_off = |why: &str| Error::failed(format!("the export broke off: {why}; try again"));
    let mut last = Vec::new();
    loop {
        let chunk = answer.chunk().await.map_err(|error| broke_off(&error.to_string()))?;
        let Some(chunk) = chunk else { break };
        out.write_all(&chunk).map_err(unwritable)?;
        bar.inc(chunk.len() as u64);
        if let Some(end) = end {
            last.extend_from_slice(&chunk);
            last.drain(..last.len().saturating_sub(end.len()));
        }
    }
    out.flush().map_err(unwritable)?;
    drop(out);
    bar.finish_and_clear();
    if end.is_some_and(|end| last != end) {
        return Err(broke_off("its end is missing"));
    }
    if !to_stdout {
        std::fs::rename(&part, file).map_err(unwritable)?;
        context.output.done(&format!("exported to {name}"));
    }
    Ok(())
}

/// An empty file that nobody else may read.
fn create(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
