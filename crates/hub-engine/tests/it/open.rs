//! Opening the hub: every identity is there with its twin, however the store cuts its pages.

use hub_domain::twin::WriteMode;
use hub_domain::version::Precondition;
use hub_store::PAGE_BYTES_MAX;
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
