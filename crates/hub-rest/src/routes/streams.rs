//! Whole fleets as streams of lines, in the service's own format of devices.txt (S 3): in and out (ours).
//! Neither direction holds more than a few batches, whatever the size of the fleet.

use std::collections::BTreeMap;
use std::io;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use bytes::Bytes;
use futures_util::stream;
use hub_api::bulk::{ImportError, ImportResult};
use hub_engine::config::{IMPORT_BYTES_MAX, IMPORT_LINE_BYTES_MAX, IMPORT_LINES_MAX};
use hub_engine::export::Export;
use hub_engine::import::Import;
use hub_engine::lines::{Line, Lines};
use serde::Deserialize;
use tokio_util::io::StreamReader;

use super::artifacts::upload;
use super::{Answer, Shared, json};
use crate::auth::Caller;
use crate::coding::Coding;
use crate::config::IMPORT_ERRORS_SHOWN_MAX;
use crate::extract::Query;
use crate::status::ApiError;
use crate::{from_wire, to_wire};

pub fn import_handlers() -> MethodRouter<Shared> {
    post(import)
}

#[derive(Deserialize)]
pub struct ImportQuery {
    mode: Option<String>,
}

/// Every line stands for itself; the answer counts them all and names the first that were not carried out.
async fn import(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Query(query): Query<ImportQuery>,
    request: Request,
) -> Answer {
    if let Some(mode) = &query.mode {
        from_wire::import_mode(mode)?;
    }
    let coding = Coding::of_body(request.headers())?;
    let import = hub.import(&who)?;
    let body = StreamReader::new(Box::pin(upload(request.into_body().into_data_stream())));
    let lines = Lines::new(coding.unpack(body), IMPORT_LINE_BYTES_MAX);
    let mut run = Run { import, mode: query.mode, result: ImportResult::default(), errors: BTreeMap::new() };
    let stopped = run.read(lines).await;
    // What was begun is finished and counted in any case.
    run.import.finish().await?;
    run.note_refused();
    let result = run.result();
    match stopped {
        Ok(()) => Ok(json(StatusCode::OK, &result, None)),
        Err(stop) => Err(stop.after(&result)),
    }
}

/// One import.
struct Run {
    import: Import,
    mode: Option<String>,
    result: ImportResult,
    errors: BTreeMap<u64, ImportError>,
}

/// Why not all lines were read.
struct Stop {
    code: u32,
    name: &'static str,
    text: String,
}

impl Stop {
    fn after(self, result: &ImportResult) -> ApiError {
        let ImportResult { lines, done, failed, .. } = result;
        let text = format!(
            "{} after line {lines}; before that {done} lines were carried out and {failed} were not",
            self.text
        );
        ApiError::bad(self.code, self.name, text)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        let text = match error.kind() {
            io::ErrorKind::TimedOut => "the body fell silent".to_string(),
            _ => format!("the body cannot be read or unpacked ({error})"),
        };
        Self { code: 400_006, name: "IotHubFormatError", text }
    }
}

impl Run {
    async fn read(&mut self, mut lines: Lines<impl tokio::io::AsyncBufRead + Unpin>) -> Result<(), Stop> {
        loop {
            let read = lines.bytes_read();
            if self.result.lines >= IMPORT_LINES_MAX || read > IMPORT_BYTES_MAX {
                let text = format!(
                    "an import has at most {IMPORT_LINES_MAX} lines and {IMPORT_BYTES_MAX} bytes; this one was cut"
                );
                return Err(Stop { code: 413_000, name: "GenericRequestEntityTooLarge", text });
            }
            let line = lines.next().await?;
            self.result.lines += u64::from(line != Line::End);
            let number = self.result.lines;
            match line {
                Line::End => return Ok(()),
                Line::Skipped => self.result.skipped += 1,
                Line::Text(text) => self.line(number, text).await?,
                Line::TooLong => {
                    let text = format!("the line is longer than {IMPORT_LINE_BYTES_MAX} bytes");
                    let error = ApiError::bad(413_000, "GenericRequestEntityTooLarge", text);
                    self.failed(number, (String::new(), String::new()), &error);
                }
            }
        }
    }

    async fn line(&mut self, number: u64, text: &[u8]) -> Result<(), Stop> {
        match from_wire::import_line(text, self.mode.as_deref()) {
            Ok(item) => {
                let taken = self.import.add(number, item).await;
                taken.map_err(|error| Stop {
                    code: 413_000,
                    name: "GenericRequestEntityTooLarge",
                    text: error.to_string(),
                })?;
                self.note_refused();
            }
            Err((name, error)) => self.failed(number, name, &error),
        }
        Ok(())
    }

    fn note_refused(&mut self) {
        for refused in self.import.refused() {
            let id = refused.id;
            let module = id.module.map(|module| module.to_string()).unwrap_or_default();
            self.failed(refused.line, (id.device.to_string(), module), &refused.error.into());
        }
    }

    fn failed(&mut self, line: u64, (device_id, module_id): (String, String), error: &ApiError) {
        self.result.failed += 1;
        let (error_code, error_status) = (error.name().into(), error.message().into());
        self.errors.insert(line, ImportError { line, device_id, module_id, error_code, error_status });
        if self.errors.len() > IMPORT_ERRORS_SHOWN_MAX {
            self.errors.pop_last();
        }
    }

    fn result(self) -> ImportResult {
        let ImportResult { lines, failed, skipped, .. } = self.result;
        let errors = self.errors.into_values().collect();
        ImportResult { lines, done: lines - failed - skipped, failed, skipped, errors }
    }
}

#[derive(Deserialize)]
pub struct ExportQuery {
    keys: Option<bool>,
    modules: Option<bool>,
}

/// Devices, then modules, each on a line.
pub async fn export(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Query(query): Query<ExportQuery>,
    headers: axum::http::HeaderMap,
) -> Answer {
    let keys = query.keys.unwrap_or(false);
    let export = hub.export(&who, keys, query.modules.unwrap_or(true))?;
    let pages = stream::unfold(export, move |mut export| async move {
        // Nothing here ever waits, so other tasks must be let in.
        tokio::task::consume_budget().await;
        Some((Ok::<_, io::Error>(page(&mut export, keys)?), export))
    });
    let coding = Coding::accepted(&headers);
    let mut response: Response = coding.pack(StreamReader::new(Box::pin(pages))).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson; charset=utf-8"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if coding != Coding::Identity {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    }
    Ok(response)
}

fn page(export: &mut Export, keys: bool) -> Option<Bytes> {
    let mut text = Vec::new();
    export.page()?.iter().for_each(|view| to_wire::export_line(view, keys, &mut text));
    Some(text.into())
}
