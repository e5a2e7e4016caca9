//! Identities: create, update, delete, bulk, keys, counts.

use hub_domain::id::TwinId;
use hub_domain::identity::{IdentitySpec, Status};
use hub_domain::limits::MODULES_PER_DEVICE_MAX;
use hub_domain::twin::TwinUpdate;
use hub_domain::version::Precondition;
use hub_engine::Error;
use hub_engine::bulk::{BulkAction, BulkItem};
use hub_engine::registry::KeyChoice;
use hub_testkit::TestHub;
use serde_json::json;

use crate::{id, tags};

#[tokio::test]
async fn the_table_of_s_2_2_holds() {
    let test = TestHub::start().await;
    let (hub, owner) = (&test.hub, test.owner());
    let spec = IdentitySpec::default;
    let first = hub.identity_create(&owner, id("d"), spec()).await.expect("created");
    assert_eq!(
        hub.identity_create(&owner, id("d"), spec()).await.expect_err("exists"),
        Error::DeviceExists(id("d").device)
    );
    let is = |view: &hub_engine::registry::IdentityView| Precondition::Is(view.identity.etag());
    let second = hub.identity_update(&owner, &id("d"), spec(), &is(&first)).await.expect("updated");
    assert_ne!(first.identity.etag(), second.identity.etag());
    assert_eq!(first.identity.generation, second.identity.generation);
    assert_eq!(
        hub.identity_update(&owner, &id("d"), spec(), &is(&first)).await.expect_err("stale"),
        Error::PreconditionFailed
    );
    let none = Error::DeviceNotFound(id("x").device);
    assert_eq!(
        hub.identity_update(&owner, &id("x"), spec(), &Precondition::Exists).await.expect_err("absent"),
        none
    );
    assert_eq!(hub.identity_get(&owner, &id("x")).expect_err("absent"), none);
    assert_eq!(hub.identity_delete(&owner, &id("x"), &Precondition::Exists).await.expect_err("absent"), none);
    assert_eq!(
        hub.identity_delete(&owner, &id("d"), &is(&first)).await.expect_err("stale"),
        Error::PreconditionFailed
    );
    hub.identity_delete(&owner, &id("d"), &Precondition::None).await.expect("deleted");
    test.advance(std::time::Duration::from_secs(1));
    let again = hub.identity_create(&owner, id("d"), spec()).await.expect("created again");
    assert_ne!(again.identity.generation, first.identity.generation);
}

#[tokio::test]
async fn modules_live_and_die_with_their_device() {
    let test = TestHub::start().await;
    let (hub, owner) = (&test.hub, test.owner());
    let module = |n: usize| TwinId::parse("d", Some(&format!("m{n}"))).expect("an id");
    let orphan =
        hub.identity_create(&owner, module(0), IdentitySpec::default()).await.expect_err("no device");
    assert_eq!(orphan, Error::DeviceNotFound(id("d").device));
    hub.identity_create(&owner, id("d"), IdentitySpec::default()).await.expect("device");
    for n in 0..MODULES_PER_DEVICE_MAX {
        hub.identity_create(&owner, module(n), IdentitySpec::default()).await.expect("module");
    }
    let full =
        hub.identity_create(&owner, module(999), IdentitySpec::default()).await.expect_err("one too many");
    assert_eq!(full, Error::TooManyModules(id("d").device));
    assert_eq!(
        hub.identity_get(&owner, &module(999)).expect_err("absent"),
        Error::ModuleNotFound(module(999))
    );
    hub.identity_delete(&owner, &id("d"), &Precondition::None).await.expect("deleted");
    assert_eq!(
        hub.identity_get(&owner, &module(1)).expect_err("gone"),
        Error::DeviceNotFound(id("d").device)
    );
    hub.identity_create(&owner, id("d"), IdentitySpec::default()).await.expect("device again");
    assert_eq!(hub.module_list(&owner, &id("d").device).expect("a list").len(), 0);
}

#[tokio::test]
async fn an_edge_device_comes_with_its_modules() {
    let test = TestHub::start().await;
    let spec = IdentitySpec { edge: true, ..IdentitySpec::default() };
    let view = test.hub.identity_create(&test.owner(), id("gw"), spec).await.expect("created");
    assert!(
        view.identity
            .device_scope
            .as_deref()
            .is_some_and(|scope| scope.starts_with("ms-azure-iot-edge://gw-"))
    );
    let names: Vec<_> = test.hub.module_list(&test.owner(), &id("gw").device).expect("a list");
    let names: Vec<_> = names.iter().map(|view| view.identity.id.to_string()).collect();
    assert_eq!(names, ["gw/$edgeAgent", "gw/$edgeHub"]);
}

#[tokio::test]
async fn bulk_items_stand_for_themselves() {
    let test = TestHub::start().await;
    let (hub, owner) = (&test.hub, test.owner());
    test.register("old").await;
    let create = |name: &str| BulkItem {
        id: id(name),
        action: BulkAction::Create { spec: IdentitySpec::default(), twin: tags(json!({"site": "a"})) },
        record: None,
    };
    let delete = BulkItem {
        id: id("none"),
        action: BulkAction::Delete { precondition: Precondition::Exists },
        record: None,
    };
    let upsert = BulkItem {
        id: id("old"),
        action: BulkAction::CreateOrUpdate {
            spec: IdentitySpec { status: Some(Status::Disabled), ..IdentitySpec::default() },
            twin: TwinUpdate::default(),
            precondition: Precondition::Exists,
            twin_precondition: Precondition::Exists,
        },
        record: None,
    };
    let results =
        hub.device_bulk(&owner, vec![create("new"), create("old"), delete, upsert]).await.expect("ran");
    let ok: Vec<_> = results.iter().map(Result::is_ok).collect();
    assert_eq!(ok, [true, false, false, true], "{results:?}");
    assert_eq!(hub.twin_get(&owner, &id("new")).expect("a twin").twin.tags["site"], json!("a"));
    let statistics = hub.statistics(&owner).expect("statistics");
    assert_eq!((statistics.devices, statistics.enabled, statistics.disabled), (2, 1, 1));
    let many = (0..101).map(|n| create(&format!("n{n}"))).collect();
    assert_eq!(hub.device_bulk(&owner, many).await.expect_err("too many"), Error::TooManyDevices(101));
}

#[tokio::test]
async fn regenerated_keys_replace_the_chosen_ones() {
    let test = TestHub::start().await;
    test.register("d").await;
    let keys = |test: &TestHub| {
        let view = test.hub.identity_get(&test.owner(), &id("d")).expect("registered");
        view.identity.authentication.keys().expect("keys").clone()
    };
    let before = keys(&test);
    let ids = vec![id("d"), id("none")];
    let results = test.hub.keys_regenerate(&test.owner(), ids, KeyChoice::Secondary).await.expect("ran");
    assert!(results[0].1.is_ok() && results[1].1.is_err());
    let after = keys(&test);
    assert_eq!(before.primary, after.primary);
    assert_ne!(before.secondary, after.secondary);
}
