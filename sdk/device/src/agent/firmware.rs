//! A firmware update in steps: download, verify, apply, reboot. What comes after the reboot is in `report`.

use std::io::Read;
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::report::{error, now};
use super::{Agent, Failure, FirmwareRequest, Machine, Pending, Step};
use crate::Error;

/// Bytes that are hashed at once.
const HASH_CHUNK_BYTES: usize = 64 * 1024;
/// The code of an image that is shorter or longer than announced.
pub(super) const SIZE_MISMATCH: &str = "sizeMismatch";

impl<M: Machine> Agent<M> {
    /// Goes through the steps up to the reboot. Says whether the device must restart now; a failure is reported.
    pub(super) async fn update(&self, request: FirmwareRequest) -> Result<bool, Error> {
        // The state changes together with the version: no query may see the new version as what the last update ended in.
        let begun = json!({
            "version": request.version, "state": Step::Downloading.as_str(), "progress": 0,
            "startedAt": now(), "updatedAt": now(), "error": null, "deferred": null,
        });
        self.report(json!({ "firmware": { "update": begun } })).await?;
        match self.steps(&request).await? {
            Ok(()) => Ok(true),
            Err((step, failure)) => {
                let update = json!({
                    "state": "failed", "error": error(&failure, Some(step)), "deferred": null, "updatedAt": now()
                });
                self.report(json!({ "firmware": { "update": update } })).await?;
                Ok(false)
            }
        }
    }

    /// The outer error ends the agent's run; the inner one is the update's own.
    async fn steps(&self, request: &FirmwareRequest) -> Result<Result<(), (Step, Failure)>, Error> {
        let path = self.machine.download_path();
        for (step, progress) in
            [(Step::Downloading, 0), (Step::Verifying, 60), (Step::Applying, 70), (Step::Rebooting, 90)]
        {
            if let Err(failure) = self.until_bearable(step).await? {
                return Ok(Err((step, failure)));
            }
            if step != Step::Downloading {
                self.report_step(step, progress).await?;
            }
            let done = match self.machine.before(step).await {
                Ok(()) => self.step(step, request, &path).await?,
                refused => refused,
            };
            if let Err(failure) = done {
                if step == Step::Verifying || failure.code == SIZE_MISMATCH {
                    // What is wrong must not be resumed.
                    let _ = tokio::fs::remove_file(&path).await;
                }
                return Ok(Err((step, failure)));
            }
        }
        Ok(Ok(()))
    }

    async fn step(
        &self,
        step: Step,
        request: &FirmwareRequest,
        path: &Path,
    ) -> Result<Result<(), Failure>, Error> {
        match step {
            Step::Downloading => self.download(request, path).await,
            Step::Verifying => Ok(verify(path, request).await),
            Step::Applying => Ok(self.machine.apply(path.to_path_buf(), &request.version).await),
            Step::Rebooting | Step::Confirming => Ok(self.machine.store_pending(Some(&Pending::Firmware {
                version: request.version.clone(),
                version_before: self.machine.firmware_version(),
                boot_id_before: self.machine.boot_id(),
            }))),
        }
    }
}

/// Checks size and SHA-256 of what was downloaded.
async fn verify(path: &Path, request: &FirmwareRequest) -> Result<(), Failure> {
    let (path, request) = (path.to_path_buf(), request.clone());
    let verified = tokio::task::spawn_blocking(move || {
        let unreadable =
            |error: std::io::Error| Failure::new("storage", format!("the image cannot be read: {error}"));
        let mut file = std::fs::File::open(&path).map_err(unreadable)?;
        let (mut hash, mut size, mut chunk) = (Sha256::new(), 0u64, vec![0; HASH_CHUNK_BYTES]);
        loop {
            match file.read(&mut chunk).map_err(unreadable)? {
                0 => break,
                read => {
                    hash.update(&chunk[..read]);
                    size += read as u64;
                }
            }
        }
        if size != request.size {
            return Err(Failure::new(
                SIZE_MISMATCH,
                format!("the image has {size} bytes instead of {}", request.size),
            ));
        }
        let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found != request.sha256 {
            return Err(Failure::new(
                "hashMismatch",
                format!("the image's SHA-256 is {found} instead of {}", request.sha256),
            ));
        }
        Ok(())
    });
    verified.await.unwrap_or_else(|error| Err(Failure::new("internal", error.to_string())))
}
