//! Folders: what is written is read, and nothing leads out of them.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use hub_container::{Container, ContainerError, ContainerPolicy};

use super::{name, pattern, read, write};

fn open(root: &Path, below: &str) -> Container {
    let policy = ContainerPolicy { folder: Some(root.into()), ..ContainerPolicy::default() };
    policy.open(&format!("file://{}/{below}", root.display())).expect("an allowed container")
}

fn fleet() -> (tempfile::TempDir, Container) {
    let root = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(root.path().join("fleet")).expect("a folder");
    let container = open(root.path(), "fleet");
    (root, container)
}

#[tokio::test]
async fn what_is_written_is_read() {
    let (root, container) = fleet();
    for (blob, len) in [("devices.txt", 0), ("devices.txt", 3_000_000), ("a/b/c.txt", 10), ("a/b/c.txt", 5)] {
        write(&container, blob, &pattern(len), 100_000).await.expect("written");
        assert_eq!(read(&container, blob).await.expect("read"), pattern(len), "{blob}");
        assert_eq!(std::fs::read(root.path().join("fleet").join(blob)).expect("a file"), pattern(len));
    }
    let left = std::fs::read_dir(root.path().join("fleet")).expect("a folder").count();
    assert_eq!(left, 2, "no other files are left");
}

#[tokio::test]
async fn a_blob_is_whole_or_as_before() {
    let (_root, container) = fleet();
    write(&container, "b", b"before", 10).await.expect("written");
    let mut writer = container.write(&name("b")).await.expect("begun");
    writer.write(Bytes::from_static(b"half")).await.expect("written");
    let second = container.write(&name("b")).await.err().expect("one at a time");
    assert!(second.to_string().contains("something else is writing it"), "{second}");
    // Dropped, as by a process that is killed.
    drop(writer);
    assert_eq!(read(&container, "b").await.expect("read"), b"before");
    write(&container, "b", b"after", 10).await.expect("the part that was left is taken over");
    assert_eq!(read(&container, "b").await.expect("read"), b"after");
    let mut writer = container.write(&name("b")).await.expect("begun");
    writer.write(Bytes::from_static(b"half")).await.expect("written");
    writer.abort().await;
    assert_eq!(read(&container, "b").await.expect("read"), b"after");
}

#[tokio::test]
async fn nothing_leads_out_of_the_folder() {
    let (root, container) = fleet();
    let outside = tempfile::tempdir().expect("a folder");
    std::fs::write(outside.path().join("secret"), "secret").expect("a file");
    let fleet = root.path().join("fleet");
    symlink(outside.path().join("secret"), fleet.join("link.txt")).expect("a link");
    symlink(outside.path(), fleet.join("away")).expect("a link");
    symlink(outside.path(), root.path().join("elsewhere")).expect("a link");
    symlink(outside.path().join("new"), fleet.join(".out.txt.part")).expect("a link");
    for (container, blob) in
        [(&container, "link.txt"), (&container, "away/secret"), (&open(root.path(), "elsewhere"), "secret")]
    {
        let error = container.read(&name(blob)).await.err().expect("not followed");
        assert!(matches!(error, ContainerError::Failed(_)), "{error}");
    }
    for (container, blob) in
        [(&container, "away/new"), (&container, "out.txt"), (&open(root.path(), "elsewhere"), "new")]
    {
        let error = container.write(&name(blob)).await.err().expect("not followed");
        assert!(matches!(error, ContainerError::Failed(_)), "{error}");
    }
    // The link itself is replaced, and where it leads nothing changes.
    write(&container, "link.txt", b"mine", 10).await.expect("written");
    let there: Vec<_> = std::fs::read_dir(outside.path()).expect("a folder").collect();
    assert_eq!(there.len(), 1);
    assert_eq!(std::fs::read(outside.path().join("secret")).expect("a file"), b"secret");
}

#[tokio::test]
async fn what_is_no_file_is_an_error_and_makes_nobody_wait() {
    let (root, container) = fleet();
    let fleet = root.path().join("fleet");
    std::fs::create_dir(fleet.join("dir")).expect("a folder");
    let pipe = std::process::Command::new("mkfifo").arg(fleet.join("pipe")).status().expect("mkfifo runs");
    assert!(pipe.success());
    for (blob, says) in
        [("dir", "not a file"), ("pipe", "not a file"), ("none", "blob 'none'"), ("no/ne", "'no'")]
    {
        let error = container.read(&name(blob)).await.err().expect(blob);
        assert!(error.to_string().contains(says), "{error}");
    }
    assert!(matches!(container.info(&name("none")).await, Err(ContainerError::NotFound(_))));
    std::fs::write(root.path().join("file"), "").expect("a file");
    let error = open(root.path(), "file").write(&name("x")).await.err().expect("a file is no container");
    assert!(error.to_string().contains("cannot be entered"), "{error}");
    let gone = open(Path::new("/nowhere/at/all"), "x").info(&name("x")).await.expect_err("no such folder");
    assert!(gone.to_string().contains("bulk.folder"), "{gone}");
}

#[tokio::test]
async fn a_change_of_a_blob_is_seen() {
    let (root, container) = fleet();
    write(&container, "b", b"one", 10).await.expect("written");
    let before = container.info(&name("b")).await.expect("there");
    let later = std::time::SystemTime::now() + Duration::from_secs(5);
    let file = std::fs::File::options().write(true).open(root.path().join("fleet/b")).expect("a file");
    file.set_modified(later).expect("set");
    assert_ne!(container.info(&name("b")).await.expect("there").version, before.version);
}
