//! Carries out an export job: all identities into one blob, all configurations into another. Nothing of it is kept but the
//! blobs, so after a restart it begins anew.

use std::sync::Arc;

use bytes::Bytes;
use hub_container::{BlobName, BlobWriter, Container};
use hub_domain::transfer::{TransferCounts, TransferSpec};

use super::transfers::Stop;
use crate::Hub;
use crate::config::EXPORT_PAGE_ENTRIES;
use crate::error::Result;
use crate::line_format::LineFormat;
use crate::transfers::Running;

/// Runs the job.
pub(super) async fn export(
    hub: &Arc<Hub>,
    spec: &TransferSpec,
    running: &Running,
    format: &Arc<dyn LineFormat>,
) -> Result<TransferCounts, Stop> {
    let output = hub.config.containers.open(&spec.output)?;
    let Some(mut counts) = export_identities(hub, spec, &output, running, &**format).await? else {
        return Ok(TransferCounts::default());
    };
    if let Some(name) = &spec.configurations {
        let mut writer = begin(&output, &BlobName::parse(name)?).await?;
        let set = hub.configurations.current();
        let all: Vec<_> = set.all().cloned().collect();
        for some in all.chunks(EXPORT_PAGE_ENTRIES) {
            let mut text = Vec::new();
            some.iter().for_each(|configuration| format.print_configuration(configuration, &mut text));
            writer.write(Bytes::from(text)).await?;
        }
        writer.finish().await?;
        counts.done += all.len() as u64;
    }
    Ok(counts)
}

/// Writes the blob of identities; `None` if the job was cancelled, and the blob is as before.
async fn export_identities(
    hub: &Arc<Hub>,
    spec: &TransferSpec,
    output: &Container,
    running: &Running,
    format: &dyn LineFormat,
) -> Result<Option<TransferCounts>, Stop> {
    let mut writer = begin(output, &BlobName::parse(&spec.output_blob)?).await?;
    let mut counts = TransferCounts::default();
    let mut pages = hub.export_all();
    while let Some(page) = pages.page() {
        if running.cancelled.is_cancelled() {
            writer.abort().await;
            return Ok(None);
        }
        let mut text = Vec::new();
        page.iter().for_each(|view| format.print_item(view, !spec.exclude_keys, &mut text));
        writer.write(Bytes::from(text)).await?;
        counts.done += page.len() as u64;
        let all = hub.index.counts();
        running.progress(counts.done, all.devices + all.modules);
        // A container that takes everything at once would keep other tasks from their turn.
        tokio::task::consume_budget().await;
    }
    writer.finish().await?;
    Ok(Some(counts))
}

async fn begin(output: &Container, name: &BlobName) -> Result<BlobWriter, Stop> {
    output.write(name).await.map_err(|error| {
        Stop::Failed(format!("Failed to write the blob '{name}' to the output container: {error}"))
    })
}
