//! Imports and exports of whole fleets.

use std::collections::BTreeSet;

use hub_domain::id::TwinId;
use hub_domain::identity::IdentitySpec;
use hub_domain::limits::MODULES_PER_DEVICE_MAX;
use hub_domain::twin::TwinUpdate;
use hub_domain::version::Precondition;
use hub_engine::Error;
use hub_engine::bulk::{BulkAction, BulkItem};
use hub_engine::config::{EXPORTS_AT_ONCE_MAX, IMPORT_BATCH_ITEMS, IMPORTS_AT_ONCE_MAX};
use hub_engine::import::Refused;
use hub_testkit::TestHub;
use serde_json::json;

use crate::{id, tags};

fn item(name: &str, action: BulkAction) -> BulkItem {
    let (device, module) = name.split_once('/').map_or((name, None), |(d, m)| (d, Some(m)));
    BulkItem { id: TwinId::parse(device, module).expect("an id"), action, record: None }
}

fn create(name: &str) -> BulkItem {
    item(name, BulkAction::Create { spec: IdentitySpec::default(), twin: tags(json!({ "site": name })) })
}

fn upsert(name: &str) -> BulkItem {
    let (spec, twin) = (IdentitySpec::default(), TwinUpdate::default());
    let (precondition, twin_precondition) = (Precondition::Exists, Precondition::Exists);
    item(name, BulkAction::CreateOrUpdate { spec, twin, precondition, twin_precondition })
}

fn delete(name: &str) -> BulkItem {
    item(name, BulkAction::Delete { precondition: Precondition::Exists })
}

/// Imports items whose lines are numbered from 1; the refused ones in the order of their lines.
async fn import(test: &TestHub, items: Vec<BulkItem>) -> Vec<Refused> {
    let mut import = test.hub.import(&test.owner()).expect("begun");
    for (index, item) in items.into_iter().enumerate() {
        import.add(index as u64 + 1, item).await.expect("taken");
    }
    import.finish().await.expect("finished");
    let mut refused = import.refused();
    refused.sort_by_key(|refused| refused.line);
    refused
}

fn exported(test: &TestHub) -> Vec<String> {
    let mut export = test.hub.export(&test.owner(), false, true).expect("begun");
    let mut names = Vec::new();
    while let Some(page) = export.page() {
        names.extend(page.iter().map(|view| view.identity.id.to_string()));
    }
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_item_stands_for_itself_over_many_batches() {
    let test = TestHub::start().await;
    test.register("d0150").await;
    let count = 7 * IMPORT_BATCH_ITEMS + 3;
    let mut items: Vec<_> = (0..count).map(|n| create(&format!("d{n:04}"))).collect();
    items.push(create("d0001"));
    items.push(delete("none"));
    // Modules find devices of the same import, wherever these are.
    items.extend([create("d0702/m"), create("nobody/m"), create("last/m"), create("last")]);
    let refused = import(&test, items).await;
    let line = |n: usize| (count + n) as u64;
    let told: Vec<_> = refused.iter().map(|refused| (refused.line, refused.error.clone())).collect();
    assert_eq!(
        told,
        [
            (151, Error::DeviceExists(id("d0150").device)),
            (line(1), Error::Invalid("'d0001' is on an earlier line, too".into())),
            (line(2), Error::DeviceNotFound(id("none").device)),
            (line(4), Error::DeviceNotFound(id("nobody").device)),
        ]
    );
    let names = exported(&test);
    assert_eq!(names.len(), count + 1 + 2);
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "nothing is exported twice");
    let view = test.hub.twin_get(&test.owner(), &id("d0300")).expect("a twin");
    assert_eq!(view.twin.tags["site"], json!("d0300"));

    // The same again does no harm, and deleting all leaves nothing.
    let again = (0..count).map(|n| upsert(&format!("d{n:04}"))).collect();
    assert_eq!(import(&test, again).await, []);
    assert_eq!(exported(&test), names);
    let mut all: Vec<_> = (0..count).map(|n| delete(&format!("d{n:04}"))).collect();
    all.push(delete("last"));
    assert_eq!(import(&test, all).await, []);
    assert_eq!(exported(&test), Vec::<String>::new());
}

#[tokio::test]
async fn modules_of_one_batch_count_against_the_limit() {
    let test = TestHub::start().await;
    test.register("d").await;
    let refused = import(&test, (0..60).map(|n| create(&format!("d/m{n}"))).collect()).await;
    assert_eq!(refused.len(), 60 - MODULES_PER_DEVICE_MAX);
    assert!(refused.iter().all(|refused| refused.error == Error::TooManyModules(id("d").device)));
}

#[tokio::test]
async fn an_edge_device_and_its_own_modules_import_together() {
    let test = TestHub::start().await;
    let spec = IdentitySpec { edge: true, ..IdentitySpec::default() };
    let edge = item("gateway", BulkAction::Create { spec, twin: TwinUpdate::default() });
    let items = vec![edge, upsert("gateway/$edgeAgent"), upsert("gateway/$edgeHub"), upsert("gateway/own")];
    assert_eq!(import(&test, items).await, []);
    assert_eq!(exported(&test), ["gateway", "gateway/$edgeAgent", "gateway/$edgeHub", "gateway/own"]);
}

#[tokio::test]
async fn there_are_only_so_many_streams_at_once() {
    let test = TestHub::start().await;
    let (hub, owner) = (&test.hub, test.owner());
    let imports: Vec<_> = (0..IMPORTS_AT_ONCE_MAX).map(|_| hub.import(&owner).expect("begun")).collect();
    assert!(matches!(hub.import(&owner).err(), Some(Error::Throttled(_))));
    drop(imports);
    assert!(hub.import(&owner).is_ok());
    let exports: Vec<_> =
        (0..EXPORTS_AT_ONCE_MAX).map(|_| hub.export(&owner, true, true).expect("begun")).collect();
    assert!(matches!(hub.export(&owner, true, true).err(), Some(Error::Throttled(_))));
    drop(exports);
    for policy in ["service", "device"] {
        let who = test.service(policy);
        assert!(matches!(hub.import(&who).err(), Some(Error::Forbidden(_))), "{policy}");
        assert!(matches!(hub.export(&who, false, false).err(), Some(Error::Forbidden(_))), "{policy}");
    }
    let reader = test.service("registryRead");
    assert!(matches!(hub.import(&reader).err(), Some(Error::Forbidden(_))));
    assert!(matches!(hub.export(&reader, true, true).err(), Some(Error::Forbidden(_))));
    assert!(hub.export(&reader, false, true).is_ok());
}
