//! Opening the hub: every identity is there with its twin, however the store cuts its pages, or it is told what is damaged.

use hub_domain::twin::WriteMode;
use hub_domain::version::Precondition;
use hub_engine::policies::Policies;
use hub_engine::tasks::Tasks;
use hub_engine::{Config, Hub, Parts};
use hub_store::blobs::BlobFolder;
use hub_store::keys::RowKey;
use hub_store::{Batch, PAGE_BYTES_MAX};
use hub_testkit::TestHub;
use serde_json::{Value, json};

use crate::{desired, id};

/// Members of a large twin's desired properties, and the bytes of each.
const MEMBERS: usize = 7;
const MEMBER_BYTES: usize = 4000;

#[tokio::test]
async fn a_start_finds_every_twin_however_large_they_are() {
    let test = TestHub::start().await;
    // Large twins do not fit into one page; their identities do. Small ones before and behind them.
    let large = PAGE_BYTES_MAX / (MEMBERS * MEMBER_BYTES) + 2;
    let name = |number: usize| format!("d{number:04}");
    let blob: Value = (0..MEMBERS).map(|n| (format!("m{n}"), json!("x".repeat(MEMBER_BYTES)))).collect();
    for number in 0..large + 20 {
        test.register(&name(number)).await;
        if (10..large + 10).contains(&number) {
            let update = desired(json!({"blob": blob, "number": number}));
            let (owner, device) = (test.owner(), id(&name(number)));
            let written =
                test.hub.twin_update(&owner, &device, &update, WriteMode::Patch, &Precondition::None);
            written.await.expect("written");
        }
    }
    let again = TestHub::on(test.store.clone()).await;
    for number in 0..large + 20 {
        let view = again.hub.twin_get(&again.owner(), &id(&name(number))).expect("a twin");
        let before = test.hub.twin_get(&test.owner(), &id(&name(number))).expect("a twin");
        assert_eq!(view.twin, before.twin, "{number}");
    }
    assert!(again.hub.twin_get(&again.owner(), &id(&name(large + 20))).is_err());
}

#[tokio::test]
async fn a_start_tells_what_is_damaged() {
    // A row that says it is a packed twin, and is not; or none.
    let cases: [(Option<&[u8]>, &str); 3] = [
        (Some(&[2, 0]), "no sound twin for 'd2'"),
        (Some(&[]), "it is empty"),
        (None, "fewer twins than identities"),
    ];
    for (row, told) in cases {
        let test = TestHub::start().await;
        for name in ["d1", "d2", "d3"] {
            test.register(name).await;
        }
        let (mut batch, key) = (Batch::new(), RowKey::Twin(id("d2")).to_key());
        match row {
            Some(row) => batch.put(key, row.to_vec()),
            None => batch.delete(key),
        }
        test.store.commit(batch).await.expect("damaged");
        let parts = Parts {
            store: test.store.clone(),
            blobs: BlobFolder::open(test.folder()).await.expect("a folder for artifacts"),
            clock: test.clock.clone(),
            tasks: Tasks::new(),
            policies: Policies::in_memory(),
        };
        let error = Hub::open(Config::default(), parts).await.err().expect("refused").to_string();
        assert!(error.contains(told), "{error}");
    }
}
