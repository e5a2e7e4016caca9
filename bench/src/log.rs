//! The peer of every durable write: a bare log that gathers what waits, appends it and syncs. The limit of this disk.

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

/// `writers` tasks write one durable record after the other for `seconds`; returns records per second and their times.
pub async fn run(folder: &Path, writers: usize, seconds: u64) -> Result<(f64, Times)> {
    let mut file = File::create(folder.join("raw.log"))?;
    let (sender, mut receiver) = mpsc::channel::<oneshot::Sender<()>>(writers);
    let writer = std::thread::spawn(move || -> Result<()> {
        let record = vec![7u8; RECORD_BYTES];
        while let Some(first) = receiver.blocking_recv() {
            let mut waiting = vec![first];
            while let Ok(next) = receiver.try_recv() {
                waiting.push(next);
            }
            for _ in &waiting {
                file.write_all(&record)?;
            }
            file.sync_data()?;
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
    writer.join().map_err(|_| anyhow::anyhow!("the log's writer panicked"))??;
    Ok((rate, times))
}
