//! Fetches an image over HTTPS. A download that is cut goes on where it stopped, also after a restart of the device.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use reqwest::header::RANGE;
use reqwest::{Response, StatusCode};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;

use super::firmware::SIZE_MISMATCH;
use super::{Agent, Failure, FirmwareRequest, Machine, Step};
use crate::Error;

/// Largest image: 2 GiB.
pub const DOWNLOAD_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// How often a cut download is taken up again.
pub const DOWNLOAD_TRIES_MAX: u32 = 5;
/// Longest silence of the server.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Pause before a cut download is taken up again; grows with each try.
const RETRY_PAUSE: Duration = Duration::from_millis(300);
/// How often progress is reported at most.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Why one try ended.
enum Cut {
    /// Trying again may help.
    Again(String),
    /// It does not.
    Final(Failure),
    /// Progress could not be reported.
    Report(Error),
}

impl<M: Machine> Agent<M> {
    /// Brings the image to `path`, with what is there already kept.
    pub(super) async fn download(
        &self,
        request: &FirmwareRequest,
        path: &Path,
    ) -> Result<Result<(), Failure>, Error> {
        if let Err(error) = forget_other(path, &request.sha256).await {
            return Ok(Err(unwritable(error)));
        }
        let mut last = String::new();
        for attempt in 0..DOWNLOAD_TRIES_MAX {
            if attempt > 0 {
                tokio::time::sleep(RETRY_PAUSE * 2u32.pow(attempt - 1)).await;
            }
            match self.fetch(request, path).await {
                Ok(()) => return Ok(Ok(())),
                Err(Cut::Final(failure)) => return Ok(Err(failure)),
                Err(Cut::Report(error)) => return Err(error),
                Err(Cut::Again(why)) => last = why,
            }
        }
        Ok(Err(Failure::new(
            "downloadFailed",
            format!("the download was cut {DOWNLOAD_TRIES_MAX} times: {last}"),
        )))
    }

    async fn fetch(&self, request: &FirmwareRequest, path: &Path) -> Result<(), Cut> {
        let storage = |error: std::io::Error| Cut::Final(unwritable(error));
        let have = tokio::fs::metadata(path).await.map_or(0, |file| file.len());
        if have == request.size {
            return Ok(());
        }
        let have = if have > request.size { 0 } else { have };
        let mut get = self.http.get(&request.url);
        if have > 0 {
            get = get.header(RANGE, format!("bytes={have}-"));
        }
        let answer = tokio::time::timeout(SILENCE_MAX, get.send()).await;
        let answer = answer.map_err(|_| Cut::Again("the server does not answer".into()))?.map_err(again)?;
        let (mut file, start) = match answer.status() {
            StatusCode::PARTIAL_CONTENT if have > 0 => {
                (OpenOptions::new().append(true).open(path).await.map_err(storage)?, have)
            }
            StatusCode::OK => (File::create(path).await.map_err(storage)?, 0),
            StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => {
                tokio::fs::remove_file(path).await.map_err(storage)?;
                return Err(Cut::Again(format!("the server has nothing from byte {have} on")));
            }
            status if status.is_server_error() => {
                return Err(Cut::Again(format!("the server answered {status}")));
            }
            status => {
                return Err(Cut::Final(Failure::new(
                    "downloadRefused",
                    format!("the server answered {status}"),
                )));
            }
        };
        let copied = self.copy(answer, &mut file, start, request).await;
        // Also after a cut: the next try goes on after the last byte that is in the file.
        file.sync_all().await.map_err(storage)?;
        copied
    }

    async fn copy(
        &self,
        answer: Response,
        file: &mut File,
        start: u64,
        request: &FirmwareRequest,
    ) -> Result<(), Cut> {
        let (mut chunks, mut size, mut reported) = (answer.bytes_stream(), start, Instant::now());
        while let Some(chunk) = tokio::time::timeout(SILENCE_MAX, chunks.next())
            .await
            .map_err(|_| Cut::Again("the server fell silent".into()))?
        {
            let chunk = chunk.map_err(again)?;
            size += chunk.len() as u64;
            if size > request.size {
                let message =
                    format!("the server sends more than the {} bytes that were announced", request.size);
                return Err(Cut::Final(Failure::new(SIZE_MISMATCH, message)));
            }
            file.write_all(&chunk).await.map_err(|error| Cut::Final(unwritable(error)))?;
            if reported.elapsed() > PROGRESS_INTERVAL {
                reported = Instant::now();
                self.report_step(Step::Downloading, size * 60 / request.size).await.map_err(Cut::Report)?;
            }
        }
        if size < request.size {
            return Err(Cut::Again(format!("the server sent {size} of {} bytes", request.size)));
        }
        Ok(())
    }
}

/// Removes what was fetched of another image, and remembers which one is fetched now.
async fn forget_other(path: &Path, sha256: &str) -> std::io::Result<()> {
    let mut note = path.as_os_str().to_owned();
    note.push(".sha256");
    if tokio::fs::read(&note).await.is_ok_and(|noted| noted == sha256.as_bytes()) {
        return Ok(());
    }
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    tokio::fs::write(&note, sha256).await
}

fn unwritable(error: std::io::Error) -> Failure {
    Failure::new("storage", format!("the image cannot be written: {error}"))
}

fn again(error: reqwest::Error) -> Cut {
    // Without the URL: whoever has it may fetch the image.
    Cut::Again(error.without_url().to_string())
}
