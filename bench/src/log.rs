//! The peers of every durable write, with the same writers and the same batches: a bare log that gathers what waits,
//! appends it and syncs, which is the limit of this disk; and the embedded engine alone, which is the limit of the hub.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::{mpsc, oneshot};

use crate::measure::Times;

/// Bytes of one record: about what a reported patch writes.
const RECORD_BYTES: usize = 1500;

/// Rows that the embedded engine overwrites in turn, as a fleet's twins are.
const ENGINE_TWINS: u64 = 1000;

const TWINS: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("twins");
const EVENTS: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("events");

/// Writes a batch of so many records, and returns when all are on disk.
type WriteBatch = Box<dyn FnMut(usize) -> Result<()> + Send>;

/// A file that grows.
pub fn raw(folder: &Path) -> Result<WriteBatch> {
    let mut file = File::create(folder.join("raw.log"))?;
    let record = vec![7u8; RECORD_BYTES];
    Ok(Box::new(move |count| {
        for _ in 0..count {
            file.write_all(&record)?;
        }
        Ok(file.sync_data()?)
    }))
}

/// The engine that the hub stores its rows in: for each record a twin's row and an event's, which is what a patch writes.
pub fn engine(folder: &Path) -> Result<WriteBatch> {
    let database = redb::Database::create(folder.join("engine.redb"))?;
    let (twin, event) = (vec![7u8; RECORD_BYTES * 2 / 3], vec![7u8; RECORD_BYTES / 3]);
    let mut position = 0u64;
    Ok(Box::new(move |count| {
        let transaction = database.begin_write()?;
        {
            let mut twins = transaction.open_table(TWINS)?;
            let mut events = transaction.open_table(EVENTS)?;
            for _ in 0..count {
                twins.insert(position.wrapping_mul(0x9e37_79b9) % ENGINE_TWINS, twin.as_slice())?;
                events.insert(position, event.as_slice())?;
                position += 1;
            }
        }
        Ok(transaction.commit()?)
    }))
}

/// `writers` tasks write one durable record after the other for `seconds`; returns records per second and their times.
pub async fn run(mut write: WriteBatch, writers: usize, seconds: u64) -> Result<(f64, Times)> {
    let (sender, mut receiver) = mpsc::channel::<oneshot::Sender<()>>(writers);
    let writer = std::thread::spawn(move || -> Result<()> {
        while let Some(first) = receiver.blocking_recv() {
            let mut waiting = vec![first];
            while let Ok(next) = receiver.try_recv() {
                waiting.push(next);
            }
            write(waiting.len())?;
            for done in waiting {
                // Nobody waits any more when the round is over.
                let _ = done.send(());
            }
        }
        Ok(())
    });
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let (sender, stop, count) = (sender.clone(), stop.clone(), count.clone());
            tokio::spawn(async move {
                let mut times = Times::default();
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let (done, wait) = oneshot::channel();
                    if sender.send(done).await.is_err() || wait.await.is_err() {
                        break;
                    }
                    times.push(begun.elapsed());
                    count.fetch_add(1, Ordering::Relaxed);
                }
                times
            })
        })
        .collect();
    drop(sender);
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let rate = count.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let mut times = Times::default();
    for task in tasks {
        times.extend(task.await?);
    }
    writer.join().map_err(|_| anyhow::anyhow!("the peer's writer panicked"))??;
    Ok((rate, times))
}
