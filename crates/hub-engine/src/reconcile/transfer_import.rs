//! Carries out an import job: lines of a blob, then configurations of another, then the blob of errors. Everything that was
//! settled by a former process is in the job's notes and is not done again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use hub_container::{BlobName, BlobReader, BlobWriter, Container, ContainerError};
use hub_domain::transfer::{LineSet, Refusal, TransferCounts, TransferSpec, TransferState};
use hub_store::{PageLen, keys, tables};

use super::transfers::Stop;
use crate::Hub;
use crate::config::{
    IMPORT_BYTES_MAX, IMPORT_CONFIGURATION_LINE_BYTES_MAX, IMPORT_CONFIGURATION_LINES_MAX,
    IMPORT_LINE_BYTES_MAX, IMPORT_LINES_MAX,
};
use crate::error::Result;
use crate::import::{Import, Journal};
use crate::line_format::{LineFormat, LinesOf};
use crate::lines::{Line, Lines};
use crate::transfers::Running;

/// The blob of an import's errors, as the service calls it.
const ERRORS_BLOB: &str = "importErrors.log";
/// What the log has of a line that is longer than it may be.
const CODE_TOO_LARGE: u32 = 413_000;

/// Runs the job, from where a former process left it.
pub(super) async fn import(
    hub: &Arc<Hub>,
    spec: &TransferSpec,
    state: &TransferState,
    running: &Running,
    format: &Arc<dyn LineFormat>,
) -> Result<TransferCounts, Stop> {
    let policy = &hub.config.containers;
    let input = policy.open(spec.input.as_deref().unwrap_or_default())?;
    let output = policy.open(&spec.output)?;
    let errors_blob = BlobName::parse(ERRORS_BLOB)?;
    // Empty, so that a container that cannot be written is told before anything is done, and no former log is taken for this one.
    let begun = async { output.write(&errors_blob).await?.finish().await };
    begun.await.map_err(|error: ContainerError| {
        Stop::Failed(format!("Failed to write {ERRORS_BLOB} to the output container: {error}"))
    })?;
    let name = BlobName::parse(&spec.input_blob)?;
    let (info, reader) = input.read(&name).await.map_err(|error| {
        Stop::Failed(format!("Failed to read devices blob from the input container: {error}"))
    })?;
    match &state.input_version {
        None => hub.note_input(&spec.id, &info.version).await?,
        Some(version) if *version == info.version => {}
        Some(_) => {
            let text = format!(
                "blob '{name}' was changed while the hub was away; what was imported before that stays"
            );
            return Err(Stop::Failed(text));
        }
    }
    let done = import_all(hub, spec, (&input, reader, info.bytes), running, format).await;
    let refused = match &done {
        Ok(configurations) => configurations.refused.as_slice(),
        Err(Stop::Failed(_)) => &[],
        Err(Stop::Later(_)) => return done.map(|_| TransferCounts::default()),
    };
    // Of an import that was cancelled or broke off it is said, too, what was refused before.
    let counts = write_errors(hub, spec, &output, &errors_blob, refused, &**format).await;
    let (configurations, mut counts) = (done?, counts?);
    counts.failed += configurations.refused.len() as u64;
    counts.done += configurations.done;
    Ok(counts)
}

/// The lines of `reader`, then those of the configurations.
async fn import_all(
    hub: &Arc<Hub>,
    spec: &TransferSpec,
    (input, reader, bytes): (&Container, BlobReader, u64),
    running: &Running,
    format: &Arc<dyn LineFormat>,
) -> Result<Configurations, Stop> {
    let settled = hub.settled(spec).await?;
    let journal = Journal { job: spec.id.clone(), format: format.clone() };
    let mut import = hub.import_journaled(spec.actor.clone(), journal, settled);
    let read = read_identities(&mut import, reader, bytes, running, &**format).await;
    // What was begun is finished in any case, so that no note comes after the job's end.
    let finished = import.finish().await;
    read?;
    finished?;
    match &spec.configurations {
        Some(blob) => import_configurations(hub, input, &BlobName::parse(blob)?, running, &**format).await,
        None => Ok(Configurations::default()),
    }
}

async fn read_identities(
    import: &mut Import,
    reader: BlobReader,
    bytes: u64,
    running: &Running,
    format: &dyn LineFormat,
) -> Result<(), Stop> {
    let mut lines = Lines::new(reader, IMPORT_LINE_BYTES_MAX);
    loop {
        if lines.count() >= IMPORT_LINES_MAX || lines.bytes_read() > IMPORT_BYTES_MAX {
            let text = format!(
                "an import has at most {IMPORT_LINES_MAX} lines and {IMPORT_BYTES_MAX} bytes; what came before that is done"
            );
            return Err(Stop::Failed(text));
        }
        running.progress(lines.bytes_read(), bytes);
        let number = lines.count() + 1;
        let line = tokio::select! {
            biased;
            () = running.cancelled.cancelled() => return Ok(()),
            line = lines.next() => line.map_err(|error| after(number, &error))?,
        };
        match line {
            Line::End => return Ok(()),
            Line::Skipped => {}
            Line::TooLong => import.refuse(too_long(number, IMPORT_LINE_BYTES_MAX)).await?,
            Line::Text(text) => match format.item(number, text) {
                Ok(item) => import.add(number, item).await?,
                Err(refusal) => import.refuse(refusal).await?,
            },
        }
        // The journal has them.
        drop(import.refused());
    }
}

fn after(number: u64, error: &std::io::Error) -> Stop {
    Stop::Failed(format!(
        "the input broke off after line {}: {error}; what came before that is done",
        number - 1
    ))
}

fn too_long(line: u64, bytes_max: usize) -> Refusal {
    let text = format!("the line is longer than {bytes_max} bytes");
    Refusal { line, subject: String::new(), module: String::new(), code: CODE_TOO_LARGE, text }
}

#[derive(Default)]
struct Configurations {
    done: u64,
    refused: Vec<Refusal>,
}

/// One after another, for there are few. Done again after a restart, each finds itself done.
async fn import_configurations(
    hub: &Hub,
    input: &Container,
    name: &BlobName,
    running: &Running,
    format: &dyn LineFormat,
) -> Result<Configurations, Stop> {
    let (_, reader) = input.read(name).await.map_err(|error| {
        Stop::Failed(format!("Failed to read configurations blob from the input container: {error}"))
    })?;
    let mut lines = Lines::new(reader, IMPORT_CONFIGURATION_LINE_BYTES_MAX);
    let mut ended = Configurations::default();
    while !running.cancelled.is_cancelled() {
        let number = lines.count() + 1;
        if number > IMPORT_CONFIGURATION_LINES_MAX {
            let text =
                format!("an import has at most {IMPORT_CONFIGURATION_LINES_MAX} lines of configurations");
            return Err(Stop::Failed(text));
        }
        match lines.next().await.map_err(|error| after(number, &error))? {
            Line::End => break,
            Line::Skipped => {}
            Line::TooLong => ended.refused.push(too_long(number, IMPORT_CONFIGURATION_LINE_BYTES_MAX)),
            Line::Text(text) => match format.configuration(number, text) {
                Err(refusal) => ended.refused.push(refusal),
                Ok(item) => match hub.configuration_import(&item).await {
                    Ok(()) => ended.done += 1,
                    Err(error @ (crate::Error::Unavailable(_) | crate::Error::Internal(_))) => {
                        return Err(Stop::Later(error));
                    }
                    Err(error) => ended.refused.push(Refusal {
                        line: number,
                        subject: item.spec.id.to_string(),
                        module: String::new(),
                        code: format.code(&error),
                        text: error.to_string(),
                    }),
                },
            },
        }
    }
    Ok(ended)
}

/// Writes the blob of errors, in the order of the lines, and counts.
async fn write_errors(
    hub: &Hub,
    spec: &TransferSpec,
    output: &Container,
    name: &BlobName,
    configurations: &[Refusal],
    format: &dyn LineFormat,
) -> Result<TransferCounts, Stop> {
    let mut log = Log { writer: output.write(name).await?, format };
    let mut counts = TransferCounts::default();
    // Notes come in the order of their first lines; what they refused lies behind those.
    let mut waiting = BTreeMap::new();
    let mut rest = Some(keys::transfer_notes(&spec.id));
    while let Some(range) = rest {
        let page = tables::transfers::notes(&*hub.store, range, PageLen::MAX).await;
        let page = page.map_err(crate::Error::from)?;
        for ((_, note), _) in page.entries {
            let behind = waiting.split_off(&note.lines.first().unwrap_or(0));
            log.write(waiting.values(), LinesOf::Identities).await?;
            waiting = behind;
            counts.failed += note.refused.len() as u64;
            counts.done += note.lines.len() - note.refused.len() as u64;
            waiting.extend(note.refused.into_iter().map(|refusal| (refusal.line, refusal)));
        }
        rest = page.rest;
    }
    log.write(waiting.values(), LinesOf::Identities).await?;
    log.write(configurations.iter(), LinesOf::Configurations).await?;
    log.writer.finish().await?;
    Ok(counts)
}

struct Log<'f> {
    writer: BlobWriter,
    format: &'f dyn LineFormat,
}

impl Log<'_> {
    async fn write(
        &mut self,
        refused: impl Iterator<Item = &Refusal>,
        of: LinesOf,
    ) -> Result<(), ContainerError> {
        let mut text = Vec::new();
        refused.for_each(|refusal| self.format.print_refusal(refusal, of, &mut text));
        if text.is_empty() { Ok(()) } else { self.writer.write(Bytes::from(text)).await }
    }
}

impl Hub {
    /// The lines that a job's notes say are settled.
    async fn settled(&self, spec: &TransferSpec) -> Result<LineSet> {
        let mut ranges = Vec::new();
        let mut rest = Some(keys::transfer_notes(&spec.id));
        while let Some(range) = rest {
            let page = tables::transfers::notes(&*self.store, range, PageLen::MAX).await?;
            page.entries.iter().for_each(|((_, note), _)| ranges.extend_from_slice(note.lines.ranges()));
            rest = page.rest;
        }
        Ok(LineSet::from_ranges(ranges).unwrap_or_default())
    }
}
