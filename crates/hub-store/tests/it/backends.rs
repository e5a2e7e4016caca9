//! Both backends pass the conformance suite.

use std::path::PathBuf;
use std::sync::Arc;

use hub_store::conformance::{self, Backend};
use hub_store::{EmbeddedOptions, EmbeddedStore, MemoryStore, Store};

#[derive(Default)]
struct Memory(MemoryStore);

impl Backend for Memory {
    fn create(&mut self) -> Arc<dyn Store> {
        self.0 = MemoryStore::new();
        Arc::new(self.0.clone())
    }

    fn reopen(&mut self) -> Arc<dyn Store> {
        self.0 = self.0.reopen();
        Arc::new(self.0.clone())
    }
}

struct Embedded {
    folder: tempfile::TempDir,
    created: u32,
}

impl Embedded {
    fn path(&self) -> PathBuf {
        self.folder.path().join(format!("{}.redb", self.created))
    }

    fn open(&self) -> Arc<dyn Store> {
        Arc::new(EmbeddedStore::open(&self.path(), EmbeddedOptions::default()).expect("a store"))
    }
}

impl Backend for Embedded {
    fn create(&mut self) -> Arc<dyn Store> {
        self.created += 1;
        self.open()
    }

    fn reopen(&mut self) -> Arc<dyn Store> {
        self.open()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_conforms() {
    conformance::run(&mut Memory::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn embedded_conforms() {
    let folder = tempfile::tempdir().expect("a folder");
    conformance::run(&mut Embedded { folder, created: 0 }).await;
}
