//! Containers against real folders and real sockets.

mod folder;
mod remote;

use bytes::Bytes;
use hub_container::{BlobName, Container, Result};
use tokio::io::AsyncReadExt;

fn name(text: &str) -> BlobName {
    BlobName::parse(text).expect("a good name")
}

async fn write(container: &Container, blob: &str, bytes: &[u8], chunk: usize) -> Result<()> {
    let mut writer = container.write(&name(blob)).await?;
    for chunk in bytes.chunks(chunk) {
        writer.write(Bytes::copy_from_slice(chunk)).await?;
    }
    writer.finish().await
}

async fn read(container: &Container, blob: &str) -> Result<Vec<u8>> {
    let (info, mut reader) = container.read(&name(blob)).await?;
    let mut bytes = Vec::new();
    reader
        .read_to_end(&mut bytes)
        .await
        .map_err(|error| hub_container::ContainerError::Failed(error.to_string()))?;
    assert_eq!(info.bytes, bytes.len() as u64);
    assert_eq!(container.info(&name(blob)).await?, info);
    Ok(bytes)
}

/// Bytes that are not the same everywhere.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7 % 251) as u8).collect()
}
