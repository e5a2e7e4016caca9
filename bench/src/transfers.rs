//! Whole fleets into the hub and out of it: an import job and an export job over a folder, and the stream over HTTPS.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::Args;
use crate::fleet::Rest;
use crate::hub::Hub;
use crate::measure::{Report, resident_bytes, with_peak};
use crate::population::twin;

/// How often a job is asked how far it is.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
/// Longest that one may take.
const TRANSFER_MAX: Duration = Duration::from_secs(1800);

/// Imports a fleet of devices with their twins, exports it as a job and as a stream.
pub async fn transfers(args: &Args, report: &mut Report) -> Result<()> {
    let (data, container) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let lines = write_fleet(&container.path().join("devices.txt"), args.registered)?;
    let hub =
        Hub::start_with(&args.binary, data.path(), &[("FLEETYARD_BULK_FOLDER", container.path())]).await?;
    let rest = Rest::new(&hub)?;
    let container = format!("file://{}", container.path().display());
    let count = args.registered;
    let aim = if count == 1_000_000 { "< 60 s" } else { "-" };
    let import = json!({
        "type": "import", "inputBlobContainerUri": container, "outputBlobContainerUri": container,
        "storageAuthenticationType": "keyBased",
    });
    let title = format!("import job, {count} devices of {} bytes", lines / count.max(1) as u64);
    run(&rest, &hub, &title, import, (count, aim), report).await?;
    let export = json!({
        "type": "export", "outputBlobContainerUri": container, "outputBlobName": "exported.txt",
        "excludeKeysInExport": false, "storageAuthenticationType": "keyBased",
    });
    run(&rest, &hub, &format!("export job, {count} devices"), export, (count, aim), report).await?;
    let before = resident_bytes(hub.process());
    let begun = Instant::now();
    let (length, peak) = with_peak(hub.process(), rest.get("/api/export")).await?;
    let took = begun.elapsed();
    let title = format!("GET /api/export, {count} devices, {:.0} MB", length as f64 / 1e6);
    note(&title, (count, aim), took, (before, peak), report);
    hub.stop().await
}

/// Writes the lines of an import; returns their bytes.
fn write_fleet(path: &Path, count: usize) -> Result<u64> {
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    for number in 0..count {
        writeln!(file, "{}", twin(number))?;
    }
    file.flush()?;
    Ok(std::fs::metadata(path)?.len())
}

async fn run(
    rest: &Rest,
    hub: &Hub,
    title: &str,
    body: Value,
    (count, aim): (usize, &str),
    report: &mut Report,
) -> Result<()> {
    let before = resident_bytes(hub.process());
    let begun = Instant::now();
    let ended = async {
        let job = rest.post("/jobs/create", &body).await?;
        let path = format!("/jobs/{}", job["jobId"].as_str().context("the job's id")?);
        loop {
            let job = rest.json(&path).await?;
            match job["status"].as_str() {
                Some("completed") => return Ok(job),
                Some("enqueued" | "running" | "queued") if begun.elapsed() < TRANSFER_MAX => {}
                _ => bail!("the {title} did not end well: {job}"),
            }
            tokio::time::sleep(ASK_INTERVAL).await;
        }
    };
    let (job, peak) = with_peak(hub.process(), ended).await?;
    let took = begun.elapsed();
    if job["doneCount"].as_u64() != Some(count as u64) {
        bail!("the {title} left some out: {job}");
    }
    note(title, (count, aim), took, (before, peak), report);
    Ok(())
}

fn note(
    title: &str,
    (count, aim): (usize, &str),
    took: Duration,
    (before, peak): (u64, u64),
    report: &mut Report,
) {
    let rate = count as f64 / took.as_secs_f64();
    let remark = format!(
        "{rate:.0} /s; hub {:.0} MB before, at most {:.0} MB",
        before as f64 / 1e6,
        peak as f64 / 1e6
    );
    report.add(title, format!("{:.1} s", took.as_secs_f64()), "-".into(), aim, &remark);
}
