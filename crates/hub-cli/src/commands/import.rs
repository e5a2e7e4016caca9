//! `fleetyard device import-file`: a file of devices as one stream of lines, whatever its size.
//! Each line that goes out has the number that it has in the file, so that the hub's words on it name the right one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use futures_util::stream;
use hub_api::bulk::{BulkResult, ImportError, ImportResult};
use indicatif::ProgressBar;
use reqwest::header::CONTENT_ENCODING;
use reqwest::{Body, Method, StatusCode};
use serde_json::{Value, json};

use super::columns::{Columns, Rows};
use crate::Context;
use crate::error::{Error, Exit, Result};
use crate::output::{bytes_progress, line, note};

/// Devices in one bulk request; the hub takes no more.
pub const BATCH_DEVICES: usize = 100;
/// Bytes that go out at once, or a line if that is longer.
const CHUNK_BYTES: usize = 64 * 1024;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// On each line an id, or a JSON object in the service's export format.
    Lines,
    /// A table whose first row names the columns.
    Csv,
}

/// What to import.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The file, or - for standard input. On each line an id, or a JSON object with id, status, tags, properties.desired,
    /// authentication, importMode and so on, as an export has it. Empty lines and lines that begin with # are skipped.
    /// A name that ends with .gz or .zst is sent as it is, with JSON objects only; one that ends with .csv is a table.
    file: PathBuf,
    /// What to do with lines that have no importMode of their own.
    #[arg(long, default_value = "create", value_parser = ["create", "update", "createOrUpdate", "delete", "updateTwin"])]
    mode: String,
    /// What the file holds, if its name does not tell.
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    columns: Columns,
}

/// Imports.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> Result<()> {
    let unreadable =
        |error: io::Error| Error::usage(format!("cannot read {}: {error}", arguments.file.display()));
    let (input, bytes): (Box<dyn Read + Send>, Option<u64>) = if arguments.file.as_os_str() == "-" {
        (Box::new(io::stdin()), None)
    } else {
        let file = File::open(&arguments.file).map_err(unreadable)?;
        let bytes = file.metadata().map_err(unreadable)?.len();
        (Box::new(file), Some(bytes))
    };
    let bar = bytes_progress(bytes, "import");
    let input = BufReader::with_capacity(CHUNK_BYTES, Box::new(bar.wrap_read(input)) as Box<dyn Read + Send>);
    let ends = |suffix: &str| arguments.file.to_string_lossy().ends_with(suffix);
    let coding = [(".gz", "gzip"), (".zst", "zstd")].into_iter().find(|(suffix, _)| ends(suffix));
    let is_csv = arguments.format.map_or(ends(".csv"), |format| format == Format::Csv);
    if !is_csv && arguments.columns.are_given() {
        return Err(Error::usage("columns are for tables: give a .csv file, or --format csv"));
    }
    let request =
        context.client.request(Method::POST, &["api", "import"]).query(&[("mode", &arguments.mode)]);
    let request = match coding {
        Some((_, coding)) => request.header(CONTENT_ENCODING, coding).body(body(Packed(input))),
        None if is_csv => request.body(body(Chunks(Rows::open(input, arguments.columns)?))),
        None => request.body(body(Chunks(Lines(input)))),
    };
    let answer = context.client.json_with_headers(request).await;
    finish_bar(&bar, answer.is_ok());
    let (answer, _) = answer.map_err(|error| {
        Error::new(error.exit, format!("{error}; lines before this may have been imported"))
    })?;
    let result: ImportResult = serde_json::from_value(answer)
        .map_err(|error| Error::failed(format!("the hub's answer is not an import's: {error}")))?;
    finish(context, &result)
}

fn finish_bar(bar: &ProgressBar, is_done: bool) {
    if is_done { bar.finish_and_clear() } else { bar.abandon() }
}

fn body(chunks: impl Iterator<Item = io::Result<Vec<u8>>> + Send + 'static) -> Body {
    Body::wrap_stream(stream::iter(chunks))
}

/// A file that goes out as it is.
struct Packed(BufReader<Box<dyn Read + Send>>);

impl Iterator for Packed {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let chunk = self.0.fill_buf().map(<[u8]>::to_vec);
        match chunk {
            Ok(chunk) if chunk.is_empty() => None,
            Ok(chunk) => {
                self.0.consume(chunk.len());
                Some(Ok(chunk))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// Where lines come from: each call adds what stands for one line or row; `false` after the last.
pub(super) trait Source {
    /// Adds the next.
    fn add(&mut self, to: &mut Vec<u8>) -> io::Result<bool>;
}

/// Lines put together to chunks.
struct Chunks<S>(S);

impl<S: Source> Iterator for Chunks<S> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        while chunk.len() < CHUNK_BYTES {
            match self.0.add(&mut chunk) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Some(Err(error)),
            }
        }
        (!chunk.is_empty()).then_some(Ok(chunk))
    }
}

/// Lines of a file; an id alone becomes an object.
struct Lines<R>(R);

impl<R: BufRead> Source for Lines<R> {
    fn add(&mut self, to: &mut Vec<u8>) -> io::Result<bool> {
        let start = to.len();
        if self.0.read_until(b'\n', to)? == 0 {
            return Ok(false);
        }
        let bytes = &to[start..];
        let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes).trim_ascii();
        if !text.is_empty() && !text.starts_with(b"#") && !text.starts_with(b"{") {
            let object = json!({ "id": String::from_utf8_lossy(text) }).to_string();
            to.truncate(start);
            to.extend_from_slice(object.as_bytes());
            to.push(b'\n');
        }
        Ok(true)
    }
}

fn finish(context: &Context, result: &ImportResult) -> Result<()> {
    let ImportResult { done, failed, .. } = *result;
    for error in &result.errors {
        note(&format!("line {}: {}", error.line, problem(error)));
    }
    let shown = result.errors.len() as u64;
    if failed > shown {
        note(&format!("and {} more", failed - shown));
    }
    if context.output.json {
        let failed: Vec<_> = result
            .errors
            .iter()
            .map(|error| json!({ "line": error.line, "error": problem(error) }))
            .collect();
        line(&json!({ "done": done, "failed": failed }).to_string())?;
    } else {
        line(&format!("{done} of {} done", done + failed))?;
    }
    match failed {
        0 => Ok(()),
        _ if done == 0 => Err(Error::failed(format!("none of {failed} lines could be carried out"))),
        _ => {
            let text = format!("{failed} of {} lines could not be carried out", done + failed);
            Err(Error::new(Exit::Partial, text))
        }
    }
}

fn problem(error: &ImportError) -> String {
    let ImportError { device_id, module_id, error_code, error_status, .. } = error;
    let name = match (device_id.as_str(), module_id.as_str()) {
        ("", _) => String::new(),
        (device, "") => format!("{device}: "),
        (device, module) => format!("{device}/{module}: "),
    };
    format!("{name}{error_code} {error_status}")
}

/// One bulk request. An answer that tells of single failures is a result, whatever its status.
pub async fn bulk(context: &Context, items: &[Value]) -> Result<BulkResult> {
    let request = context.client.request(Method::POST, &["devices"]).json(items);
    let (status, body) = context.client.raw(request).await?;
    if matches!(status, StatusCode::OK | StatusCode::BAD_REQUEST)
        && let Ok(result) = serde_json::from_slice::<BulkResult>(&body)
    {
        return Ok(result);
    }
    Err(crate::client::answer_error(status, &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_keeps_its_number() {
        let text = "\u{feff}pump-1\n\n# fleet\n{\"id\":\"pump-2\"}\r\n a\"b \r\npump-3";
        let chunks: Vec<_> = Chunks(Lines(text.as_bytes())).map(|chunk| chunk.expect("memory")).collect();
        let sent = String::from_utf8(chunks.concat()).expect("text");
        let lines: Vec<_> = sent.lines().collect();
        assert_eq!(
            lines,
            [
                "{\"id\":\"pump-1\"}",
                "",
                "# fleet",
                "{\"id\":\"pump-2\"}",
                "{\"id\":\"a\\\"b\"}",
                "{\"id\":\"pump-3\"}"
            ]
        );
    }
}
