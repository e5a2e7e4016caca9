//! The folder of artifacts: content in, the same content out, and nothing left of uploads that failed.

use std::io::{self, SeekFrom};
use std::path::Path;

use futures_util::{FutureExt, StreamExt, stream};
use hub_domain::artifact::Digest;
use hub_store::Bytes;
use hub_store::blobs::{Blob, BlobError, BlobFolder};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn chunks(parts: &[&'static str]) -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    stream::iter(parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect::<Vec<_>>())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

fn digest(text: &str) -> Digest {
    Digest::parse(text).expect("a digest")
}

#[tokio::test]
async fn content_is_stored_once_and_read_from_anywhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = BlobFolder::open(&folder.path().join("artifacts")).await.expect("a new folder");
    let abc = Blob { digest: digest(ABC), bytes: 3 };
    assert_eq!(blobs.add(chunks(&["a", "", "bc"])).await.expect("stored"), abc);
    assert_eq!(blobs.add(chunks(&["abc"])).await.expect("stored again"), abc);
    assert_eq!(blobs.add(chunks(&[])).await.expect("stored"), Blob { digest: digest(EMPTY), bytes: 0 });
    assert_eq!(names(&folder.path().join("artifacts")), [ABC, EMPTY]);

    let (mut file, bytes) = blobs.get(&digest(ABC)).await.expect("a read").expect("a file");
    assert_eq!(bytes, 3);
    file.seek(SeekFrom::Start(1)).await.expect("a seek");
    let mut text = String::new();
    file.read_to_string(&mut text).await.expect("text");
    assert_eq!(text, "bc");

    // Things that are not ours are neither listed nor touched.
    std::fs::write(folder.path().join("artifacts/readme.txt"), "x").expect("written");
    std::fs::write(folder.path().join("artifacts").join(ABC.to_uppercase()), "x").expect("written");
    let mut listed = blobs.list().await.expect("a list");
    listed.sort_by_key(|blob| blob.bytes);
    assert_eq!(listed, [Blob { digest: digest(EMPTY), bytes: 0 }, abc]);

    // Who reads while it is removed reads on.
    file.seek(SeekFrom::Start(0)).await.expect("a seek");
    assert!(blobs.remove(&digest(ABC)).await.expect("removed"));
    assert!(!blobs.remove(&digest(ABC)).await.expect("was removed"));
    assert!(blobs.get(&digest(ABC)).await.expect("a read").is_none());
    text.clear();
    file.read_to_string(&mut text).await.expect("text");
    assert_eq!(text, "abc");
}

#[tokio::test]
async fn uploads_that_fail_leave_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = BlobFolder::open_with_limit(folder.path(), 4).await.expect("a folder");
    let cut = chunks(&["abc"]).chain(stream::iter([Err(io::Error::from(io::ErrorKind::ConnectionReset))]));
    assert!(matches!(blobs.add(cut).await, Err(BlobError::Cut { .. })));
    assert!(matches!(blobs.add(chunks(&["abc", "de"])).await, Err(BlobError::TooLarge { bytes_max: 4 })));
    assert_eq!(blobs.add(chunks(&["abc", "d"])).await.expect("just fits").bytes, 4);
    assert_eq!(names(folder.path()).len(), 1);

    let mut waiting = Box::pin(blobs.add(chunks(&["abc"]).chain(stream::pending())));
    // Polled until the file is there: then the caller goes away.
    while names(folder.path()).len() == 1 {
        assert!((&mut waiting).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    drop(waiting);
    assert_eq!(names(folder.path()).len(), 1);
}

#[tokio::test]
async fn leftovers_of_a_crash_are_removed_at_start() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("7.upload"), "half").expect("written");
    std::fs::write(folder.path().join(ABC), "abc").expect("written");
    let blobs = BlobFolder::open(folder.path()).await.expect("a folder");
    assert_eq!(names(folder.path()), [ABC]);
    assert_eq!(blobs.list().await.expect("a list"), [Blob { digest: digest(ABC), bytes: 3 }]);
}

#[tokio::test]
async fn a_place_that_cannot_be_a_folder_is_named() {
    let told = BlobFolder::open(Path::new("/dev/null/artifacts")).await.expect_err("no folder").to_string();
    assert_eq!(told, "cannot open /dev/null/artifacts");
}
